// An EST client of Bouncy Castle's: OPERATION HOST:PORT ANCHOR LOGIN PASSWORD [CSR] -> objects as PEM on stdout.

import java.io.FileInputStream;
import java.io.OutputStreamWriter;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.Collections;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.HttpAuth;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;

public class EstClient {
    public static void main(String[] words) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        X509Certificate root = (X509Certificate) CertificateFactory.getInstance("X.509")
            .generateCertificate(new FileInputStream(words[2]));
        ESTService service = new JsseESTServiceBuilder(words[1],
            JcaJceUtils.getCertPathTrustManager(Collections.singleton(new TrustAnchor(root, null)), null)).build();
        ESTAuth login = new HttpAuth(null, words[3], words[4].toCharArray());
        JcaPEMWriter out = new JcaPEMWriter(new OutputStreamWriter(System.out));
        if (words[0].equals("cacerts")) {
            write(out, ESTService.storeToArray(service.getCACerts().getCertificateStore()));
        } else if (words[0].equals("csrattrs")) {
            for (Object each : service.getCSRAttributes().getAttributesResponse().getRequirements()) {
                System.out.println(((ASN1ObjectIdentifier) each).getId());
            }
        } else {
            PKCS10CertificationRequest request = new PKCS10CertificationRequest(Files.readAllBytes(Paths.get(words[5])));
            EnrollmentResponse answer = words[0].equals("serverkeygen")
                ? service.simpleEnrollWithServersideCreation(request, login)
                : service.simpleEnroll(words[0].equals("simplereenroll"), request, login);
            write(out, ESTService.storeToArray(answer.getStore()));
            if (answer.getPrivateKeyInfo() != null) {
                out.writeObject(answer.getPrivateKeyInfo());
            }
        }
        out.flush();
    }

    private static void write(JcaPEMWriter out, X509CertificateHolder[] certificates) throws Exception {
        for (X509CertificateHolder each : certificates) {
            out.writeObject(each);
        }
    }
}
