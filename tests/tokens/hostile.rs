//! The hostile tokens: name, text, and the reason that refuses it.

use crate::pairs::{Pair, encode};
use crate::world::{SECOND, WORLD, claims, token, with, without};
use quotad::engine::decision::Reason::{
    self, TokenAlgorithmNotAllowed as Algorithm, TokenAudienceInvalid as Audience,
    TokenClaimMissing as Missing, TokenExpired as Expired, TokenIssuerInvalid as Issuer,
    TokenKeyUnknown as KeyUnknown, TokenLifetimeTooLong as Lifetime, TokenMalformed as Malformed,
    TokenNotYetValid as NotYet, TokenSignatureInvalid as Signature, TokenTypeInvalid as Type,
};
use serde_json::{Value, json};

/// One hostile token.
pub(crate) struct Hostile {
    /// What it tries.
    pub(crate) name: String,
    /// The token.
    pub(crate) token: String,
    /// Why it is refused.
    pub(crate) reason: Reason,
}

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    let mut rows = Vec::new();
    let mut add = |name: String, token: String, reason| rows.push(Hostile { name, token, reason });
    algorithms(&mut add);
    keys(&mut add);
    headers(&mut add);
    shapes(&mut add);
    signatures(&mut add);
    dates(&mut add);
    members(&mut add);
    identities(&mut add);
    meanings(&mut add);
    rows
}

type Add<'a> = &'a mut dyn FnMut(String, String, Reason);

/// A token says which algorithm, and the key disagrees.
fn algorithms(add: Add<'_>) {
    let world = &*WORLD;
    let payload = |issuer| claims(issuer).to_string();
    for none in
        ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS1", "HS257", "ES512", "ES256K", "RSA", "*"]
    {
        let header = json!({"alg": none}).to_string();
        let unsigned = format!("{}.{}.", encode(&header), encode(payload("hs")));
        add(format!("alg {none:?} without a signature"), unsigned, Algorithm);
        add(
            format!("alg {none:?} with one"),
            token(&header, &payload("hs"), &world.secret, "HS256"),
            Algorithm,
        );
    }
    for other in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256"] {
        let header = json!({"alg": other}).to_string();
        add(
            format!("{other} for an HS256 entry"),
            token(&header, &payload("hs"), &world.secret, other),
            Algorithm,
        );
    }
    for (issuer, pair) in [("rs", &world.rsa), ("es", &world.p256), ("es384", &world.p384), ("ed", &world.ed)]
    {
        let pem = pair.pem();
        for (form, secret) in [
            ("PEM", pem.clone()),
            ("PEM without the newline", pem.trim_end().to_owned()),
            ("PEM in one line", pem.replace('\n', "")),
        ] {
            let forged =
                token(r#"{"alg":"HS256"}"#, &payload(issuer), &Pair::Secret(secret.into_bytes()), "HS256");
            add(format!("HS256 with the public key of {issuer} as secret, {form}"), forged, Algorithm);
        }
    }
    for other in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let header = json!({"alg": other}).to_string();
        add(
            format!("{other} by the key of an RS256 entry"),
            token(&header, &payload("rs"), &world.rsa, other),
            Algorithm,
        );
    }
    let set =
        |header: Value, pair: &Pair, algorithm| token(&header.to_string(), &payload("set"), pair, algorithm);
    let confused = set(json!({"alg": "PS256", "kid": "rs1"}), &world.rsa, "PS256");
    add("PS256, which is allowed, under a key of RS256".into(), confused, Algorithm);
    let confused = set(json!({"alg": "RS256", "kid": "ps1"}), &world.pss, "RS256");
    add("RS256, which is allowed, under a key of PS256".into(), confused, Algorithm);
    let confused = set(json!({"alg": "EdDSA", "kid": "es1"}), &world.ed, "EdDSA");
    add("EdDSA under the name of an EC key".into(), confused, Algorithm);
    let lie = token(r#"{"alg":"RS256"}"#, &payload("rs"), &world.rsa, "PS256");
    add("RS256 by name, PS256 by signature".into(), lie, Signature);
    let lie = token(r#"{"alg":"RS256"}"#, &payload("rs"), &world.rsa, "RS512");
    add("RS256 by name, RS512 by signature".into(), lie, Signature);
    let es = token(r#"{"alg":"ES384"}"#, &payload("es"), &world.p384, "ES384");
    add("ES384 for an ES256 entry".into(), es, Algorithm);
}

/// A token says which key.
fn keys(add: Add<'_>) {
    let world = &*WORLD;
    let payload = claims("set").to_string();
    let set = |header: Value, pair: &Pair, algorithm| token(&header.to_string(), &payload, pair, algorithm);
    for id in [
        "rs2",
        "RS1",
        "rs1 ",
        "",
        "../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "https://evil.example/key",
        "rs1' OR '1'='1",
        "$(id)",
        "|id",
        "0",
        "__proto__",
        "rs\u{ff11}",
        "r\u{455}1",
        &"k".repeat(256),
    ] {
        add(format!("kid {id:?}"), set(json!({"alg": "RS256", "kid": id}), &world.rsa, "RS256"), KeyUnknown);
    }
    for id in ["rs1\0", "rs1\n", "\u{7f}", "rs1\u{202e}", "\u{2066}rs1", "\u{85}", &"k".repeat(257)] {
        add(format!("kid {id:?}"), set(json!({"alg": "RS256", "kid": id}), &world.rsa, "RS256"), Malformed);
    }
    for id in [json!(null), json!(1), json!(["rs1"]), json!({"rs1": 1}), json!(true)] {
        add(format!("kid {id}"), set(json!({"alg": "RS256", "kid": id}), &world.rsa, "RS256"), Malformed);
    }
    add("no kid, several keys".into(), set(json!({"alg": "RS256"}), &world.rsa, "RS256"), KeyUnknown);
    for (id, algorithm) in [("enc1", "RS256"), ("ops1", "RS256"), ("k1", "ES256"), ("u1", "RS256")] {
        let signed = set(json!({"alg": algorithm, "kid": id}), &world.stranger, "RS256");
        add(format!("the key {id}, which is not for this"), signed, KeyUnknown);
    }
    let foreign = set(json!({"alg": "RS512", "kid": "foreign1"}), &world.stranger, "RS512");
    add("a key of the set with an algorithm that is not the entry's".into(), foreign, Algorithm);
    let foreign = set(json!({"alg": "RS256", "kid": "foreign1"}), &world.stranger, "RS256");
    add("that key under an allowed algorithm".into(), foreign, KeyUnknown);
    let swapped = set(json!({"alg": "RS256", "kid": "rs1"}), &world.stranger, "RS256");
    add("another's key under a known name".into(), swapped, Signature);
    let other = token(r#"{"alg":"HS256"}"#, &claims("hs").to_string(), &world.other_secret, "HS256");
    add("another secret".into(), other, Signature);
    for (name, secret) in [("empty", vec![]), ("zeros", vec![0; 64]), ("\"secret\"", b"secret".to_vec())] {
        let forged = token(r#"{"alg":"HS256"}"#, &claims("hs").to_string(), &Pair::Secret(secret), "HS256");
        add(format!("a secret that is {name}"), forged, Signature);
    }
}

/// Members of a header.
fn headers(add: Add<'_>) {
    let world = &*WORLD;
    let own = world.stranger.jwk(json!({}));
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks.json")),
        ("jku", json!(null)),
        ("jwk", own.clone()),
        ("jwk", json!({})),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5c", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let header = json!({"alg": "HS256", name: value}).to_string();
        add(format!("header member {name}: {value}, rightly signed"), world.hs_header(&header), Malformed);
    }
    let embedded = json!({"alg": "RS256", "jwk": own}).to_string();
    let signed = token(&embedded, &claims("rs").to_string(), &world.stranger, "RS256");
    add("a token that brings its own key".into(), signed, Malformed);
    for typ in [
        "JWS",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "application/json",
        "",
        "JWT ",
        "at+jwt;v=1",
        "text/jwt",
    ] {
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        add(format!("typ {typ:?}"), world.hs_header(&header), Type);
    }
    for (name, header) in [
        ("alg twice", r#"{"alg":"HS256","alg":"HS256"}"#),
        ("alg twice, none last", r#"{"alg":"HS256","alg":"none"}"#),
        ("alg twice, one escaped", r#"{"alg":"HS256","\u0061lg":"none"}"#),
        ("kid twice", r#"{"alg":"HS256","kid":"a","kid":"b"}"#),
        ("a member twice, deep", r#"{"alg":"HS256","x":{"a":{"b":1,"b":1}}}"#),
        ("no alg", r#"{"typ":"JWT"}"#),
        ("an empty header", "{}"),
        ("alg null", r#"{"alg":null}"#),
        ("alg a number", r#"{"alg":256}"#),
        ("alg a list", r#"{"alg":["HS256"]}"#),
        ("alg in capitals only", r#"{"ALG":"HS256"}"#),
        ("typ null", r#"{"alg":"HS256","typ":null}"#),
        ("typ a number", r#"{"alg":"HS256","typ":1}"#),
        ("a list", r#"[{"alg":"HS256"}]"#),
        ("a string", r#""HS256""#),
        ("no JSON", "alg=HS256"),
        ("text after it", r#"{"alg":"HS256"}{}"#),
        ("a comment", r#"{"alg":"HS256"/**/}"#),
        ("single quotes", "{'alg':'HS256'}"),
        ("a comma too many", r#"{"alg":"HS256",}"#),
        ("a byte order mark", "\u{feff}{\"alg\":\"HS256\"}"),
        ("17 deep", &format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(16), "]".repeat(16))),
    ] {
        add(format!("header: {name}"), world.hs_header(header), Malformed);
    }
}

/// The text of the token.
fn shapes(add: Add<'_>) {
    let good = WORLD.good();
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!("three parts") };
    let padded = |part: &str| format!("{part}{}", "=".repeat((4 - part.len() % 4) % 4));
    let big = WORLD.hs(&with("x", "x".repeat(6_200)));
    assert!(big.len() > 8 * 1024, "{}", big.len());
    for (name, text) in [
        ("nothing", String::new()),
        ("a dot", ".".into()),
        ("two dots", "..".into()),
        ("three dots", "...".into()),
        ("one part", (*header).into()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts (JWE)", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
        (
            "an encrypted token",
            format!("{}.AAAA.AAAA.AAAA.AAAA", encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)),
        ),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("a dot before", format!(".{good}")),
        ("a dot after", format!("{good}.")),
        ("a space before", format!(" {good}")),
        ("a space after", format!("{good} ")),
        ("a newline after", format!("{good}\n")),
        ("a tab within", format!("{header}\t.{payload}.{signature}")),
        ("a newline within", format!("{header}.{payload}\n.{signature}")),
        ("a zero byte after", format!("{good}\0")),
        ("the scheme before it", format!("Bearer {good}")),
        ("quotes around it", format!("\"{good}\"")),
        ("two, one after another", format!("{good}{good}")),
        ("two, with a comma", format!("{good},{good}")),
        ("two, with a comma and a space", format!("{good}, {good}")),
        ("two, with a space", format!("{good} {good}")),
        ("two, with a semicolon", format!("{good};{good}")),
        (
            "padding on the header",
            format!("{}.{payload}.{signature}", padded(&encode(r#"{"alg": "HS256"}"#))),
        ),
        ("padding on the signature", format!("{header}.{payload}.{}", padded(signature))),
        ("padding in the middle", format!("{header}=.{payload}.{signature}")),
        ("percent signs for padding", format!("{good}%3D")),
        ("standard base64", format!("{header}.{payload}.{}", "+/+/".repeat(10))),
        ("spare bits in the signature", spare_bits(&good)),
        ("characters of full width", good.replace('e', "\u{ff45}")),
        ("a soft hyphen", good.replacen('J', "J\u{ad}", 1)),
        ("a zero-width space", good.replacen('.', ".\u{200b}", 1)),
        ("full stops of another script", good.replace('.', "\u{ff0e}")),
        ("a direction mark before", format!("\u{200f}{good}")),
        ("more than 8 KiB", big),
        ("8 KiB of dots", ".".repeat(8 * 1024)),
        ("a megabyte", format!("{good}{}", "A".repeat(1024 * 1024))),
        (
            "JSON serialisation",
            format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        ),
        ("a SAML assertion", "<saml:Assertion/>".into()),
        ("a PASETO", "v4.public.eyJzdWIiOiJhIn0".into()),
    ] {
        add(format!("shape: {name}"), text, Malformed);
    }
}

/// The last character has bits that no byte takes; set one.
fn spare_bits(token: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = token.split_at(token.len() - 1);
    let index = ALPHABET.find(last).unwrap();
    assert_eq!(index % 4, 0, "32 bytes leave two spare bits");
    format!("{rest}{}", &ALPHABET[index + 1..index + 2])
}

/// Signatures that are nearly right.
fn signatures(add: Add<'_>) {
    let world = &*WORLD;
    let payload = |issuer| claims(issuer).to_string();
    for (issuer, algorithm, pair) in [
        ("hs", "HS256", &world.secret),
        ("rs", "RS256", &world.rsa),
        ("es", "ES256", &world.p256),
        ("es384", "ES384", &world.p384),
        ("ed", "EdDSA", &world.ed),
    ] {
        let signed = format!("{}.{}", encode(json!({"alg": algorithm}).to_string()), encode(payload(issuer)));
        let right = pair.sign(algorithm, signed.as_bytes());
        let mut flipped = right.clone();
        flipped[0] ^= 1;
        let mut last = right.clone();
        *last.last_mut().unwrap() ^= 1;
        for (name, signature) in [
            ("empty", vec![]),
            ("of one byte", vec![0]),
            ("of zeros", vec![0; right.len()]),
            ("of ones", vec![0xff; right.len()]),
            ("a byte short", right[..right.len() - 1].to_vec()),
            ("a byte short in front", right[1..].to_vec()),
            ("half", right[..right.len() / 2].to_vec()),
            ("a byte longer", [right.as_slice(), &[0]].concat()),
            ("a byte longer in front", [&[0], right.as_slice()].concat()),
            ("twice", [right.as_slice(), right.as_slice()].concat()),
            ("with its halves swapped", [&right[right.len() / 2..], &right[..right.len() / 2]].concat()),
            ("with a bit of its first byte changed", flipped),
            ("with a bit of its last byte changed", last),
            ("of another message", pair.sign(algorithm, b"another message")),
            ("of the payload only", pair.sign(algorithm, encode(payload(issuer)).as_bytes())),
        ] {
            add(
                format!("{algorithm} signature {name}"),
                format!("{signed}.{}", encode(signature)),
                Signature,
            );
        }
        let mut raised = claims(issuer);
        raised["sub"] = json!("admin");
        let moved = format!(
            "{}.{}.{}",
            signed.split('.').next().unwrap(),
            encode(raised.to_string()),
            encode(&right)
        );
        add(format!("{algorithm} signature under other claims"), moved, Signature);
    }
    ecdsa(add);
    pss(add);
}

/// ECDSA signatures at the edges of what numbers may be, and in another encoding.
fn ecdsa(add: Add<'_>) {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let world = &*WORLD;
    let signed = format!("{}.{}", encode(r#"{"alg":"ES256"}"#), encode(claims("es").to_string()));
    let right = world.p256.sign("ES256", signed.as_bytes());
    let order: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&ORDER[i * 2..i * 2 + 2], 16).unwrap()).collect();
    let zero = [0; 32];
    let (r, s) = right.split_at(32);
    let integer = |number: &[u8]| [&[2, 33, 0], number].concat();
    for (name, signature) in [
        ("r 0", [&zero[..], s].concat()),
        ("s 0", [r, &zero[..]].concat()),
        ("r the order", [order.as_slice(), s].concat()),
        ("r and s the order", [order.as_slice(), order.as_slice()].concat()),
        ("in DER", [&[0x30, 70][..], &integer(r), &integer(s)].concat()),
        ("r of 33 bytes and s of 31", [&[0], r, &s[..31]].concat()),
        ("r of 31 bytes and s of 33", [&r[1..], &[0], s].concat()),
        ("of the length of P-384", [&[0; 16], r, &[0; 16], s].concat()),
    ] {
        add(format!("ES256 signature: {name}"), format!("{signed}.{}", encode(signature)), Signature);
    }
}

/// PSS with another salt than the hash's length.
fn pss(add: Add<'_>) {
    use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaPssSaltLength, RsaSignatureEncoding};
    static NO_SALT: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0));
    static LONG_SALT: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    let signed =
        format!("{}.{}", encode(r#"{"alg":"PS256","kid":"ps1"}"#), encode(claims("set").to_string()));
    for (name, encoding) in [("no salt", &NO_SALT), ("the longest salt", &LONG_SALT)] {
        let signature = WORLD.pss.sign_rsa(encoding, signed.as_bytes());
        add(format!("PS256 with {name}"), format!("{signed}.{}", encode(signature)), Signature);
    }
}

/// Times, all rightly signed.
fn dates(add: Add<'_>) {
    let world = &*WORLD;
    let text = |members: &str| world.hs_text(&format!(r#"{{"iss":"hs","sub":"alice","jti":"1",{members}}}"#));
    for (members, reason) in [
        (format!(r#""exp":{}"#, SECOND - 31), Expired),
        (format!(r#""exp":{}"#, SECOND - 30), Expired),
        (format!(r#""exp":{}.5"#, SECOND - 31), Expired),
        (format!(r#""iat":{SECOND},"exp":{}"#, SECOND - 3600), Expired),
        (r#""exp":0"#.into(), Expired),
        (r#""exp":-0"#.into(), Expired),
        (r#""exp":1.5e-3"#.into(), Expired),
        (format!(r#""exp":{},"nbf":{}"#, SECOND + 600, SECOND + 31), NotYet),
        (format!(r#""exp":{},"nbf":{}.001"#, SECOND + 600, SECOND + 30), NotYet),
        (format!(r#""exp":{},"iat":{}"#, SECOND + 600, SECOND + 31), NotYet),
        (format!(r#""exp":{},"iat":{}"#, SECOND + 600, SECOND + 3600), NotYet),
        (format!(r#""exp":{},"iat":{}"#, SECOND + 600, 253_402_300_799_u64), NotYet),
        (format!(r#""exp":{},"iat":{}"#, SECOND + 10, SECOND + 20), NotYet),
        (format!(r#""exp":{},"iat":{}"#, SECOND - 20, SECOND - 10), Expired),
        (format!(r#""exp":{},"iat":{SECOND}"#, SECOND + 8 * 86_400 + 1), Lifetime),
        (format!(r#""exp":{}"#, SECOND + 8 * 86_400 + 1), Lifetime),
        (format!(r#""exp":{},"iat":{}"#, SECOND + 600, SECOND - 9 * 86_400), Lifetime),
        (format!(r#""exp":{},"iat":0"#, SECOND + 600), Lifetime),
        (r#""exp":253402300799"#.into(), Lifetime),
    ] {
        add(format!("times {members}"), text(&members), reason);
    }
    for bad in [
        "null",
        "true",
        "\"\"",
        "\"1790000600\"",
        "[1790000600]",
        "{\"exp\":1790000600}",
        "-1",
        "-0.1",
        "253402300800",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e20",
        "1e308",
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "01790000600",
        "+1790000600",
        "1790000600.",
        "0x6AB0",
        "1_790_000_600",
    ] {
        add(format!("exp {bad}"), text(&format!(r#""exp":{bad}"#)), Malformed);
        for name in ["nbf", "iat"] {
            add(
                format!("{name} {bad}"),
                text(&format!(r#""exp":{},"{name}":{bad}"#, SECOND + 600)),
                Malformed,
            );
        }
    }
}

/// Members of a payload, all rightly signed.
fn members(add: Add<'_>) {
    let world = &*WORLD;
    let end = SECOND + 600;
    let rest = format!(r#""iss":"hs","sub":"alice","jti":"1","exp":{end}"#);
    for (name, payload) in [
        ("exp twice", format!(r#"{{{rest},"exp":{end}}}"#)),
        ("exp twice, the later last", format!(r#"{{"exp":1,{rest}}}"#)),
        ("iss twice", format!(r#"{{"iss":"rs",{rest}}}"#)),
        ("sub twice", format!(r#"{{{rest},"sub":"admin"}}"#)),
        ("sub twice, one escaped", format!(r#"{{{rest},"\u0073ub":"admin"}}"#)),
        ("jti twice", format!(r#"{{{rest},"jti":"2"}}"#)),
        ("a claim twice", format!(r#"{{{rest},"a":1,"a":1}}"#)),
        ("a member twice, one level down", format!(r#"{{{rest},"a":{{"b":1,"b":2}}}}"#)),
        ("a member twice, deep in lists", format!(r#"{{{rest},"a":[[{{"c":[{{"b":1,"b":2}}]}}]]}}"#)),
        ("17 deep in lists", format!(r#"{{{rest},"a":{}{}}}"#, "[".repeat(16), "]".repeat(16))),
        ("17 deep in objects", format!(r#"{{{rest},"a":{}1{}}}"#, r#"{"a":"#.repeat(16), "}".repeat(16))),
        ("1,000 deep", format!(r#"{{{rest},"a":{}{}}}"#, "[".repeat(1000), "]".repeat(1000))),
        ("a list", format!("[{{{rest}}}]")),
        ("a string", r#""alice""#.into()),
        ("null", "null".into()),
        ("a number", "1".into()),
        ("no JSON", "sub=alice".into()),
        ("cut off", format!("{{{rest}")),
        ("text after it", format!("{{{rest}}}x")),
        ("two objects", format!("{{{rest}}}{{{rest}}}")),
        ("a byte order mark", format!("\u{feff}{{{rest}}}")),
        ("half a surrogate", format!(r#"{{{rest},"a":"\ud800"}}"#)),
        ("a raw control character", format!("{{{rest},\"a\":\"\u{1}\"}}")),
        ("a token within", world.good()),
    ] {
        add(format!("payload: {name}"), world.hs_text(&payload), Malformed);
    }
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(b"{\"iss\":\"hs\",\"a\":\"\xff\"}"));
    let signature = encode(world.secret.sign("HS256", signed.as_bytes()));
    add("payload: not UTF-8".into(), format!("{signed}.{signature}"), Malformed);
}

/// Identifiers, all rightly signed.
fn identities(add: Add<'_>) {
    let world = &*WORLD;
    let long = "x".repeat(257);
    for name in ["sub", "jti", "iss"] {
        for bad in [
            json!(null),
            json!(7),
            json!(1.5),
            json!(true),
            json!(["alice"]),
            json!({"a": 1}),
            json!(""),
            json!("a\0b"),
            json!("a\r\nX-Admin: 1"),
            json!("a\u{7f}"),
            json!("a\u{9b}31m"),
            json!("nimda\u{202e}"),
            json!("\u{2067}a"),
            json!("\u{61c}a"),
            json!(long),
        ] {
            let shown = bad.to_string().chars().take(24).collect::<String>();
            add(format!("{name} {shown}"), world.hs(&with(name, bad)), Malformed);
        }
    }
    add("no sub".into(), world.hs(&without("sub")), Missing);
    add("no jti".into(), world.hs(&without("jti")), Missing);
    add("no exp".into(), world.hs(&without("exp")), Missing);
    add("no iss".into(), world.hs(&without("iss")), Issuer);
    add("no claims".into(), world.hs(&json!({})), Issuer);
    for issuer in
        ["HS", "hs ", "hs/", "evil", "h\u{455}", "\u{ff48}\u{ff53}", "hs.evil.example", "https://hs"]
    {
        add(format!("iss {issuer:?}"), world.hs(&with("iss", issuer)), Issuer);
    }
    add("the issuer of another key".into(), world.hs(&with("iss", "rs")), Algorithm);
    let crossed = token(r#"{"alg":"RS256"}"#, &claims("rs").to_string(), &world.pss, "RS256");
    add("a key of another issuer".into(), crossed, Signature);
    for bad in
        [json!(null), json!(1), json!(["a", 1]), json!([null]), json!({"a": 1}), json!([["a"]]), json!(true)]
    {
        add(format!("aud {bad}"), world.hs(&with("aud", bad)), Malformed);
    }
}

/// Good in form and signature, for another purpose.
fn meanings(add: Add<'_>) {
    let picky = |members: Value| {
        let mut claims = claims("picky");
        let all = json!({"aud": "api", "type": "access", "tenant": "t1"});
        for (name, value) in all.as_object().unwrap().iter().chain(members.as_object().unwrap()) {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| *value != "absent");
        WORLD.hs(&claims)
    };
    assert!(WORLD.verifier.check(&picky(json!({})), &[], crate::world::NOW).is_ok());
    for bad in [
        json!("absent"),
        json!("API"),
        json!("api "),
        json!(""),
        json!([]),
        json!(["x"]),
        json!("api,web"),
        json!("*"),
    ] {
        add(format!("for the audience {bad}"), picky(json!({"aud": bad})), Audience);
    }
    for bad in [
        json!("absent"),
        json!("refresh"),
        json!("Access"),
        json!(null),
        json!(1),
        json!(["access"]),
        json!(""),
    ] {
        add(format!("of the type {bad}"), picky(json!({"type": bad})), Type);
    }
    for bad in [json!("absent"), json!(null)] {
        add(format!("with the tenant {bad}"), picky(json!({"tenant": bad})), Missing);
    }
    add("that lives too long".into(), picky(json!({"exp": SECOND + 3601})), Lifetime);
    add("that lived too long".into(), picky(json!({"exp": SECOND + 1, "iat": SECOND - 3600})), Lifetime);
    add(
        "with four faults: first the times".into(),
        picky(json!({"exp": 1, "aud": "x", "type": "x", "tenant": null})),
        Expired,
    );
    add("then the audience".into(), picky(json!({"aud": "x", "type": "x", "tenant": null})), Audience);
    add("then the type".into(), picky(json!({"type": "x", "tenant": null, "exp": SECOND + 9000})), Type);
    add("then required claims".into(), picky(json!({"tenant": null, "exp": SECOND + 9000})), Missing);
}
