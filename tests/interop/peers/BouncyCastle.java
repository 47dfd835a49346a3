import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.interfaces.ECPublicKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.AlgorithmParameterSpec;
import java.security.spec.MGF1ParameterSpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import javax.mail.Session;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeBodyPart;
import javax.mail.internet.MimeMessage;
import javax.mail.internet.MimeMultipart;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.x509.SubjectKeyIdentifier;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cert.jcajce.JcaX509ExtensionUtils;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.mail.smime.SMIMECompressedGenerator;
import org.bouncycastle.mail.smime.SMIMEEnvelopedGenerator;
import org.bouncycastle.mail.smime.SMIMESignedGenerator;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.OutputAEADEncryptor;
import org.bouncycastle.operator.OutputEncryptor;
import org.bouncycastle.operator.jcajce.JcaAlgorithmParametersConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.pkcs.PKCS12PfxPduBuilder;
import org.bouncycastle.pkcs.PKCS12SafeBag;
import org.bouncycastle.pkcs.jcajce.JcaPKCS12SafeBagBuilder;
import org.bouncycastle.pkcs.jcajce.JcePKCS12MacCalculatorBuilder;
import org.bouncycastle.pkcs.jcajce.JcePKCSPBEOutputEncryptorBuilder;

/**
 * Bouncy Castle behind a line protocol: a request is "command key=value …" with values in base64, the answer
 * is "ok" or "no" and one base64 value. One warm process serves a whole test run.
 */
public class BouncyCastle {
    static final Map<String, ASN1ObjectIdentifier> CIPHERS = Map.of(
        "aes-128-cbc", CMSAlgorithm.AES128_CBC, "aes-192-cbc", CMSAlgorithm.AES192_CBC,
        "aes-256-cbc", CMSAlgorithm.AES256_CBC, "aes-128-gcm", CMSAlgorithm.AES128_GCM,
        "aes-192-gcm", CMSAlgorithm.AES192_GCM, "aes-256-gcm", CMSAlgorithm.AES256_GCM,
        "aes-128-ccm", CMSAlgorithm.AES128_CCM, "aes-256-ccm", CMSAlgorithm.AES256_CCM,
        "3des-cbc", CMSAlgorithm.DES_EDE3_CBC, "rc2-cbc", CMSAlgorithm.RC2_CBC);
    static final Map<String, ASN1ObjectIdentifier> AGREEMENTS = Map.of(
        "sha1", CMSAlgorithm.ECDH_SHA1KDF, "sha224", CMSAlgorithm.ECDH_SHA224KDF,
        "sha256", CMSAlgorithm.ECDH_SHA256KDF, "sha384", CMSAlgorithm.ECDH_SHA384KDF,
        "sha512", CMSAlgorithm.ECDH_SHA512KDF, "cofactor-sha1", CMSAlgorithm.ECCDH_SHA1KDF,
        "cofactor-sha256", CMSAlgorithm.ECCDH_SHA256KDF, "cofactor-sha512", CMSAlgorithm.ECCDH_SHA512KDF);
    static final Map<String, ASN1ObjectIdentifier> WRAPS = Map.of(
        "aes-128", CMSAlgorithm.AES128_WRAP, "aes-256", CMSAlgorithm.AES256_WRAP,
        "3des", CMSAlgorithm.DES_EDE3_WRAP);

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line; (line = lines.readLine()) != null; ) {
            String answer;
            try {
                answer = "ok " + Base64.getEncoder().encodeToString(answer(line.split(" ")));
            } catch (Throwable problem) {
                String said = problem.getClass().getSimpleName() + ": " + problem.getMessage();
                answer = "no " + Base64.getEncoder().encodeToString(said.getBytes(StandardCharsets.UTF_8));
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    static byte[] answer(String[] words) throws Exception {
        Map<String, byte[]> values = new HashMap<>();
        for (int i = 1; i < words.length; i++) {
            int at = words[i].indexOf('=');
            values.put(words[i].substring(0, at), Base64.getDecoder().decode(words[i].substring(at + 1)));
        }
        switch (words[0]) {
            case "sign": return sign(values);
            case "verify": return verify(values);
            case "encrypt": return encrypt(values);
            case "decrypt": return decrypt(values);
            case "compress": return compress(values);
            case "mail": return mail(values);
            case "pkcs12": return pkcs12(values);
            case "time": return time(words, values);
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    /** Nanoseconds that each of so many runs of another command takes, here and without the line between. */
    static byte[] time(String[] words, Map<String, byte[]> values) throws Exception {
        String[] timed = words.clone();
        timed[0] = text(values, "timed");
        int runs = Integer.parseInt(text(values, "runs"));
        long begun = System.nanoTime();
        for (int i = 0; i < runs; i++) {
            answer(timed);
        }
        return Long.toString((System.nanoTime() - begun) / runs).getBytes(StandardCharsets.UTF_8);
    }

    /** Two keys and their certificates, all in one encrypted safe, or as Bouncy Castle's own key store writes. */
    static byte[] pkcs12(Map<String, byte[]> values) throws Exception {
        char[] password = text(values, "password").toCharArray();
        String cipher = text(values, "cipher");
        KeyStore store = KeyStore.getInstance("PKCS12", "BC");
        store.load(null, null);
        List<PKCS12SafeBag> bags = new ArrayList<>();
        for (String number : List.of("1", "2")) {
            X509Certificate certificate = certificate(values.get("certificate" + number));
            PrivateKey key = key(certificate, values.get("key" + number));
            store.setKeyEntry(number, key, password, new java.security.cert.Certificate[] {certificate});
            bags.add(new JcaPKCS12SafeBagBuilder(key).build());
            bags.add(new JcaPKCS12SafeBagBuilder(certificate).build());
        }
        if (cipher.isEmpty()) {
            ByteArrayOutputStream stored = new ByteArrayOutputStream();
            store.store(stored, password);
            return stored.toByteArray();
        }
        PKCS12PfxPduBuilder builder = new PKCS12PfxPduBuilder();
        builder.addEncryptedData(
            new JcePKCSPBEOutputEncryptorBuilder(new ASN1ObjectIdentifier(cipher)).setProvider("BC").build(password),
            bags.toArray(new PKCS12SafeBag[0]));
        return builder.build(new JcePKCS12MacCalculatorBuilder().setProvider("BC"), password).getEncoded();
    }

    static String text(Map<String, byte[]> values, String name) {
        byte[] value = values.get(name);
        return value == null ? "" : new String(value, StandardCharsets.UTF_8);
    }

    static X509Certificate certificate(byte[] der) throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509", "BC")
            .generateCertificate(new ByteArrayInputStream(der));
    }

    static PrivateKey key(X509Certificate certificate, byte[] pkcs8) throws Exception {
        return KeyFactory.getInstance(certificate.getPublicKey().getAlgorithm(), "BC")
            .generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
    }

    static SignerInfoGenerator signer(Map<String, byte[]> values) throws Exception {
        X509Certificate certificate = certificate(values.get("certificate"));
        ContentSigner signer = new JcaContentSignerBuilder(text(values, "scheme")).setProvider("BC")
            .build(key(certificate, values.get("key")));
        JcaSignerInfoGeneratorBuilder builder = new JcaSignerInfoGeneratorBuilder(
            new JcaDigestCalculatorProviderBuilder().setProvider("BC").build());
        builder.setDirectSignature(text(values, "attributes").equals("no"));
        if (text(values, "by").equals("key")) {
            byte[] id = new JcaX509ExtensionUtils()
                .createSubjectKeyIdentifier(certificate.getPublicKey()).getKeyIdentifier();
            return builder.build(signer, id);
        }
        return builder.build(signer, certificate);
    }

    static byte[] sign(Map<String, byte[]> values) throws Exception {
        byte[] content = values.get("content");
        boolean attached = !text(values, "detached").equals("yes");
        if (text(values, "stream").equals("yes")) {
            CMSSignedDataStreamGenerator generator = new CMSSignedDataStreamGenerator();
            generator.addSignerInfoGenerator(signer(values));
            generator.addCertificates(new JcaCertStore(List.of(certificate(values.get("certificate")))));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            generator.setBufferSize(1000);
            try (var inner = generator.open(out, attached)) {
                inner.write(content);
            }
            return out.toByteArray();
        }
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addSignerInfoGenerator(signer(values));
        generator.addCertificates(new JcaCertStore(List.of(certificate(values.get("certificate")))));
        return generator.generate(new CMSProcessableByteArray(content), attached).getEncoded();
    }

    static byte[] verify(Map<String, byte[]> values) throws Exception {
        byte[] message = values.get("message");
        CMSSignedData data = values.containsKey("content")
            ? new CMSSignedData(new CMSProcessableByteArray(values.get("content")), message)
            : new CMSSignedData(message);
        X509Certificate certificate = certificate(values.get("certificate"));
        Collection<SignerInformation> signers = data.getSignerInfos().getSigners();
        for (SignerInformation one : signers) {
            if (!one.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(certificate))) {
                throw new IllegalStateException("not verified");
            }
        }
        if (signers.size() != 1) {
            throw new IllegalStateException("signers: " + signers.size());
        }
        return data.getSignedContent() == null ? new byte[0] : (byte[]) data.getSignedContent().getContent();
    }

    static RecipientInfoGenerator recipient(Map<String, byte[]> values) throws Exception {
        X509Certificate certificate = certificate(values.get("certificate"));
        String kind = text(values, "management");
        String algorithm = certificate.getPublicKey().getAlgorithm();
        if (algorithm.equals("RSA")) {
            byte[] id = new JcaX509ExtensionUtils()
                .createSubjectKeyIdentifier(certificate.getPublicKey()).getKeyIdentifier();
            boolean byKey = text(values, "by").equals("key");
            if (kind.startsWith("oaep")) {
                String[] parts = kind.split("/");
                OAEPParameterSpec oaep = new OAEPParameterSpec(parts[1], "MGF1", new MGF1ParameterSpec(parts[2]),
                    parts.length > 3 ? new PSource.PSpecified(parts[3].getBytes(StandardCharsets.UTF_8))
                        : PSource.PSpecified.DEFAULT);
                var identifier = new JcaAlgorithmParametersConverter()
                    .getAlgorithmIdentifier(org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers.id_RSAES_OAEP, oaep);
                return byKey
                    ? new JceKeyTransRecipientInfoGenerator(id, identifier, certificate.getPublicKey()).setProvider("BC")
                    : new JceKeyTransRecipientInfoGenerator(certificate, identifier).setProvider("BC");
            }
            return byKey ? new JceKeyTransRecipientInfoGenerator(id, certificate.getPublicKey()).setProvider("BC")
                : new JceKeyTransRecipientInfoGenerator(certificate).setProvider("BC");
        }
        String[] parts = kind.split("/");
        KeyPairGenerator pairs = KeyPairGenerator.getInstance("EC", "BC");
        pairs.initialize(((ECPublicKey) certificate.getPublicKey()).getParams(), new SecureRandom());
        KeyPair pair = pairs.generateKeyPair();
        var generator = new JceKeyAgreeRecipientInfoGenerator(
            AGREEMENTS.get(parts[0]), pair.getPrivate(), pair.getPublic(), WRAPS.get(parts[1]));
        generator.setProvider("BC");
        if (parts.length > 2) {
            generator.setUserKeyingMaterial(parts[2].getBytes(StandardCharsets.UTF_8));
        }
        if (text(values, "by").equals("key")) {
            byte[] id = new JcaX509ExtensionUtils()
                .createSubjectKeyIdentifier(certificate.getPublicKey()).getKeyIdentifier();
            return generator.addRecipient(id, certificate.getPublicKey());
        }
        return generator.addRecipient(certificate);
    }

    static byte[] encrypt(Map<String, byte[]> values) throws Exception {
        String cipher = text(values, "cipher");
        CMSTypedData content = new CMSProcessableByteArray(values.get("content"));
        OutputEncryptor encryptor = new JceCMSContentEncryptorBuilder(CIPHERS.get(cipher)).setProvider("BC").build();
        if (cipher.endsWith("gcm") || cipher.endsWith("ccm")) {
            CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
            generator.addRecipientInfoGenerator(recipient(values));
            if (text(values, "attributes").equals("yes")) {
                generator.setAuthenticatedAttributeGenerator(new SimpleAttributes());
            }
            return generator.generate(content, (OutputAEADEncryptor) encryptor).getEncoded();
        }
        if (text(values, "stream").equals("yes")) {
            CMSEnvelopedDataStreamGenerator generator = new CMSEnvelopedDataStreamGenerator();
            generator.addRecipientInfoGenerator(recipient(values));
            generator.setBufferSize(1000);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            try (var inner = generator.open(out, encryptor)) {
                inner.write(values.get("content"));
            }
            return out.toByteArray();
        }
        CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
        generator.addRecipientInfoGenerator(recipient(values));
        return generator.generate(content, encryptor).getEncoded();
    }

    static class SimpleAttributes implements CMSAttributeTableGenerator {
        @Override
        public org.bouncycastle.asn1.cms.AttributeTable getAttributes(Map parameters) {
            var vector = new org.bouncycastle.asn1.ASN1EncodableVector();
            vector.add(new org.bouncycastle.asn1.cms.Attribute(
                org.bouncycastle.asn1.cms.CMSAttributes.contentType,
                new org.bouncycastle.asn1.DERSet(org.bouncycastle.asn1.cms.CMSObjectIdentifiers.data)));
            vector.add(new org.bouncycastle.asn1.cms.Attribute(
                new ASN1ObjectIdentifier("1.2.3.4"),
                new org.bouncycastle.asn1.DERSet(new org.bouncycastle.asn1.DEROctetString(new byte[] {1, 2, 3}))));
            return new org.bouncycastle.asn1.cms.AttributeTable(vector);
        }
    }

    static byte[] decrypt(Map<String, byte[]> values) throws Exception {
        X509Certificate certificate = certificate(values.get("certificate"));
        PrivateKey key = key(certificate, values.get("key"));
        boolean transport = certificate.getPublicKey().getAlgorithm().equals("RSA");
        byte[] message = values.get("message");
        RecipientInformationStore recipients;
        Recipient recipient;
        if (text(values, "authenticated").equals("yes")) {
            recipients = new CMSAuthEnvelopedData(message).getRecipientInfos();
            if (!transport) {
                throw new UnsupportedOperationException("no key agreement in AuthEnvelopedData");
            }
            recipient = new JceKeyTransAuthEnvelopedRecipient(key).setProvider("BC");
        } else {
            recipients = new CMSEnvelopedData(message).getRecipientInfos();
            recipient = transport ? new JceKeyTransEnvelopedRecipient(key).setProvider("BC")
                : new JceKeyAgreeEnvelopedRecipient(key).setProvider("BC");
        }
        RecipientId id = transport ? new JceKeyTransRecipientId(certificate) : new JceKeyAgreeRecipientId(certificate);
        return recipients.get(id).getContent(recipient);
    }

    static byte[] compress(Map<String, byte[]> values) throws Exception {
        return new CMSCompressedDataGenerator().generate(
            new CMSProcessableByteArray(values.get("content")),
            new org.bouncycastle.cms.jcajce.ZlibCompressor()).getEncoded();
    }

    /** A whole message by Bouncy Castle's own S/MIME writer: the steps in order, such as "sign compress encrypt". */
    static byte[] mail(Map<String, byte[]> values) throws Exception {
        MimeBodyPart part = new MimeBodyPart();
        part.setText(text(values, "content"), "utf-8");
        Map<String, byte[]> receiver = new HashMap<>(values);
        receiver.put("certificate", values.get("reader"));
        Object content = part;
        for (String step : text(values, "steps").split(" ")) {
            MimeBodyPart body = new MimeBodyPart();
            if (content instanceof MimeMultipart) {
                body.setContent((MimeMultipart) content);
            } else {
                body = (MimeBodyPart) content;
            }
            if (step.startsWith("sign") || step.startsWith("opaque")) {
                SMIMESignedGenerator generator = new SMIMESignedGenerator();
                generator.addSignerInfoGenerator(signer(values));
                generator.addCertificates(new JcaCertStore(List.of(certificate(values.get("certificate")))));
                content = step.equals("sign") ? generator.generate(body) : generator.generateEncapsulated(body);
            } else if (step.equals("compress")) {
                content = new SMIMECompressedGenerator()
                    .generate(body, new org.bouncycastle.cms.jcajce.ZlibCompressor());
            } else {
                SMIMEEnvelopedGenerator generator = new SMIMEEnvelopedGenerator();
                generator.addRecipientInfoGenerator(recipient(receiver));
                content = generator.generate(body, new JceCMSContentEncryptorBuilder(
                    CIPHERS.get(text(values, "cipher"))).setProvider("BC").build());
            }
        }
        MimeMessage message = new MimeMessage(Session.getDefaultInstance(new Properties()));
        message.setFrom(new InternetAddress(text(values, "sender")));
        message.setRecipient(javax.mail.Message.RecipientType.TO, new InternetAddress(text(values, "to")));
        message.setSubject("by Bouncy Castle");
        if (content instanceof MimeMultipart) {
            message.setContent((MimeMultipart) content);
        } else {
            MimeBodyPart body = (MimeBodyPart) content;
            message.setContent(body.getContent(), body.getContentType());
        }
        message.saveChanges();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        message.writeTo(out);
        return out.toByteArray();
    }
}
