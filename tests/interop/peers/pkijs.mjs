// PKI.js behind a line protocol: a request is "command key=value …" with values in base64, the answer is "ok" or
// "no" and one base64 value. One warm process serves a whole test run.
import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";

pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: webcrypto }));

const buffer = (octets) => octets.buffer.slice(octets.byteOffset, octets.byteOffset + octets.byteLength);
const text = (values, name) => (values[name] ? values[name].toString("utf8") : "");
const certificateOf = (octets) => pkijs.Certificate.fromBER(buffer(octets));

const ALGORITHMS = {
  "rsa-pkcs1v15": (hash) => ({ name: "RSASSA-PKCS1-v1_5", hash }),
  "rsa-pss": (hash) => ({ name: "RSA-PSS", hash }),
  "p256": () => ({ name: "ECDSA", namedCurve: "P-256" }),
  "p384": () => ({ name: "ECDSA", namedCurve: "P-384" }),
  "p521": () => ({ name: "ECDSA", namedCurve: "P-521" }),
};

async function sign(values) {
  const certificate = certificateOf(values.certificate);
  const hash = text(values, "hash");
  const algorithm = ALGORITHMS[text(values, "scheme")](hash);
  const key = await webcrypto.subtle.importKey("pkcs8", values.key, algorithm, true, ["sign"]);
  const content = buffer(values.content);
  const detached = text(values, "detached") === "yes";
  const signer = new pkijs.SignerInfo({
    version: 1,
    sid: new pkijs.IssuerAndSerialNumber({ issuer: certificate.issuer, serialNumber: certificate.serialNumber }),
  });
  if (text(values, "attributes") !== "no") {
    const digest = await webcrypto.subtle.digest({ name: hash }, content);
    signer.signedAttrs = new pkijs.SignedAndUnsignedAttributes({
      type: 0,
      attributes: [
        new pkijs.Attribute({
          type: "1.2.840.113549.1.9.3",
          values: [new asn1js.ObjectIdentifier({ value: "1.2.840.113549.1.7.1" })],
        }),
        new pkijs.Attribute({
          type: "1.2.840.113549.1.9.5",
          values: [new asn1js.UTCTime({ valueDate: new Date(text(values, "at")) })],
        }),
        new pkijs.Attribute({
          type: "1.2.840.113549.1.9.4",
          values: [new asn1js.OctetString({ valueHex: digest })],
        }),
      ],
    });
  }
  const signed = new pkijs.SignedData({
    version: 1,
    encapContentInfo: new pkijs.EncapsulatedContentInfo({ eContentType: pkijs.ContentInfo.DATA }),
    signerInfos: [signer],
    certificates: [certificate],
  });
  if (!detached) {
    signed.encapContentInfo.eContent = new asn1js.OctetString({ valueHex: content });
  }
  await signed.sign(key, 0, hash, content);
  const info = new pkijs.ContentInfo({ contentType: pkijs.ContentInfo.SIGNED_DATA, content: signed.toSchema(true) });
  return info.toSchema().toBER(false);
}

async function verify(values) {
  const info = pkijs.ContentInfo.fromBER(buffer(values.message));
  const signed = new pkijs.SignedData({ schema: info.content });
  const options = { signer: 0, checkChain: false };
  if (values.content) {
    options.data = buffer(values.content);
  }
  if (!(await signed.verify(options))) {
    throw new Error("not verified");
  }
  const content = signed.encapContentInfo.eContent;
  return content ? content.getValue() : new ArrayBuffer(0);
}

async function encrypt(values) {
  const enveloped = new pkijs.EnvelopedData();
  enveloped.addRecipientByCertificate(certificateOf(values.certificate), {
    oaepHashAlgorithm: text(values, "hash"),
    kdfAlgorithm: text(values, "hash"),
    kekEncryptionLength: 256,
  });
  const [name, length] = text(values, "cipher").split("/");
  await enveloped.encrypt({ name, length: Number(length) }, buffer(values.content));
  const info = new pkijs.ContentInfo({ contentType: pkijs.ContentInfo.ENVELOPED_DATA, content: enveloped.toSchema() });
  return info.toSchema().toBER(false);
}

async function decrypt(values) {
  const info = pkijs.ContentInfo.fromBER(buffer(values.message));
  const enveloped = new pkijs.EnvelopedData({ schema: info.content });
  return enveloped.decrypt(0, {
    recipientCertificate: certificateOf(values.certificate),
    recipientPrivateKey: buffer(values.key),
  });
}

const COMMANDS = { sign, verify, encrypt, decrypt };

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(" ");
  const values = {};
  for (const word of words) {
    const at = word.indexOf("=");
    values[word.slice(0, at)] = Buffer.from(word.slice(at + 1), "base64");
  }
  try {
    const answer = await COMMANDS[command](values);
    process.stdout.write(`ok ${Buffer.from(answer).toString("base64")}\n`);
  } catch (problem) {
    process.stdout.write(`no ${Buffer.from(String(problem)).toString("base64")}\n`);
  }
}
