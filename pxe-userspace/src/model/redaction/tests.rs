use proptest::prelude::*;

use super::*;

const SECRET: &str = "hunter2hunter2";

#[test]
fn secrets_are_masked_where_they_stand_and_the_rest_stays() {
    let token = "AAAAAQAAAAL_____________________";
    for (text, expected) in [
        // Kernel arguments.
        (
            "kernelCmdlineArgs: console=tty0 talos.config=http://10.0.0.1/c quiet",
            "kernelCmdlineArgs: console=tty0 talos.config=*** quiet",
        ),
        ("    kernelCmdlineArgs: \"a.b=hunter2 ip=dhcp\"", "    kernelCmdlineArgs: \"a.b=*** ip=dhcp\""),
        ("  \"kernel_args\": \"x=hunter2\",", "  \"kernel_args\": \"x=***\","),
        (
            "- kernelCmdlineArgs: >-\n    console=tty0\n    password=hunter2\n  address: 10.0.0.1",
            "- kernelCmdlineArgs: >-\n    console=tty0\n    password=***\n  address: 10.0.0.1",
        ),
        // Keys.
        ("password: hunter2", "password: ***"),
        ("  adminToken: \"hunter2\"", "  adminToken: ***"),
        ("  \"client_secret\": \"hunter2\",", "  \"client_secret\": ***,"),
        ("api-key = 'hunter2'", "api-key = ***"),
        ("key: |\n  hunter2\n  hunter3\nname: a", "key: |\n  ***\n  ***\nname: a"),
        ("pxed.dev/secrets: guarded", "pxed.dev/secrets: guarded"),
        ("--talos-token=hunter2 --http-port=8000", "--talos-token= ***"),
        ("PXED_PASSWORD=hunter2", "PXED_PASSWORD= ***"),
        // Mappings in one line, also quoted.
        ("r: {auth: {password: \"hunter2\", username: me}, mirrors: {a: b}}", "r: {auth: ***, mirrors: {a: b}}"),
        (
            "- w: {privateKey: hunter2=, peers: [{presharedKey: 'hunter 2'}], port: 1}",
            "- w: {privateKey: ***, peers: [{presharedKey: ***}], port: 1}",
        ),
        (
            "- {macAddress: \"52:54:00:12:34:56\", kernelCmdlineArgs: \"a.b=hunter2 quiet\", cpuArchitecture: amd64}",
            "- {macAddress: \"52:54:00:12:34:56\", kernelCmdlineArgs: \"a.b=*** quiet\", cpuArchitecture: amd64}",
        ),
        ("a: '{\"spec\":{\"token\":\"hunter2\"}}'", "a: '{\"spec\":{\"token\":***}}'"),
        ("\"a\": \"{\\\"token\\\":\\\"hunter2\\\",\\\"b\\\":1}\"", "\"a\": \"{\\\"token\\\":***,\\\"b\\\":1}\""),
        // URLs.
        ("get http://user:hunter2@mirror.example/x now", "get http://***@mirror.example/x now"),
        ("http_proxy=http://u:p@10.0.0.1:3128/", "http_proxy=http://***@10.0.0.1:3128/"),
        ("see https://a.example/c?mac=1&t=hunter2&", "see https://a.example/c?mac=***&t=***&"),
        ("GET /c?hunter2", "GET /c?***"),
        ("http://10.0.0.1:8000/assets/vmlinuz-v1.13.0-amd64", "http://10.0.0.1:8000/assets/vmlinuz-v1.13.0-amd64"),
        // Headers.
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("sent Bearer hunter2, then Basic aHVudGVy.", "sent Bearer ***, then Basic ***"),
        // PEM.
        (
            "a\n-----BEGIN EC PRIVATE KEY-----\nMHc\nxyz\n-----END EC PRIVATE KEY-----\nb",
            "a\n-----BEGIN EC PRIVATE KEY----- (removed)\n***\n***\n***\nb",
        ),
        // Long words.
        ("jointoken dGhpcyBpcyBhIHNlY3JldCBrZXk5 x", "jointoken *** x"),
        ("at 0123456789abcdef0123456789abcdef", "at ***"),
        (
            "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        // What a person needs to see.
        (
            "52:54:00:12:34:56, 10.0.0.5: worker of lab, Talos v1.13.0 amd64",
            "52:54:00:12:34:56, 10.0.0.5: worker of lab, Talos v1.13.0 amd64",
        ),
        ("  \"at\": \"2026-01-01T00:00:00.000Z\",", "  \"at\": \"2026-01-01T00:00:00.000Z\","),
        ("", ""),
    ] {
        assert_eq!(Redaction::default().of(text), expected, "{text}");
    }
    let url = format!("http://10.0.0.1:8000/boot/52-54-00-12-34-56/{token}/config.yaml");
    assert_eq!(Redaction::default().of(&url), "http://10.0.0.1:8000/boot/52-54-00-12-34-56/***/config.yaml");
    let script = format!("GET /boot/52-54-00-12-34-56/{token}.ipxe HTTP/1.1");
    assert_eq!(Redaction::default().of(&script), "GET /boot/52-54-00-12-34-56/***.ipxe HTTP/1.1");
}

/// The texts around a secret in which nobody has to know it.
fn contexts(secret: &str) -> Vec<String> {
    vec![
        format!("password: {secret}"),
        format!("  token: '{secret}'\n"),
        format!("\"secret\": \"{secret}\","),
        format!("kernelCmdlineArgs: talos.config.inline={secret} quiet"),
        format!("kernelCmdlineArgs: >-\n  quiet\n  a.b={secret}\n"),
        format!("http://{secret}@host/x"),
        format!("http://user:{secret}@host/x"),
        format!("http://host/x?jointoken={secret}&y=1"),
        format!("Authorization: Bearer {secret}"),
        format!("-----BEGIN KEY-----\n{secret}\n-----END KEY-----"),
    ]
}

proptest! {
    /// A word that stands where secrets stand is never in the text that comes out.
    #[test]
    fn secret_in_a_place_of_secrets_does_not_come_out(secret in "[A-Za-z][A-Za-z0-9]{3,3}[A-Za-z0-9+_.~-]{6,40}", around in 0_usize..10) {
        prop_assume!(!"http://password: token secret kernelCmdlineArgs talos.config.inline jointoken Authorization Bearer (removed) quiet".contains(&secret));
        let text = contexts(&secret).swap_remove(around);
        let redacted = Redaction::default().of(&text);
        prop_assert!(!redacted.contains(&secret), "{} became {}", text, redacted);
    }

    /// A known secret of any characters is nowhere in what comes out, in any encoding.
    #[test]
    fn known_secret_does_not_come_out_in_any_encoding(
        secret in "[!-~é]{6,30}",
        before in "[ -~]{0,20}",
        behind in "[ -~\n]{0,20}",
    ) {
        prop_assume!(!secret.contains(MASK));
        let mut redaction = Redaction::default();
        redaction.learn(&secret);
        for encoded in encodings(&secret) {
            let redacted = redaction.of(&format!("{before}{encoded}{behind}"));
            for encoded in encodings(&secret) {
                prop_assert!(!redacted.contains(&encoded), "{:?} is in {:?}", encoded, redacted);
            }
        }
    }

    #[test]
    fn anything_is_no_panic(text in "(?s).{0,200}") {
        let _ = Redaction::default().of(&text);
    }
}

#[test]
fn known_secret_is_removed_from_the_middle_of_words() {
    let mut redaction = Redaction::default();
    redaction.learn(SECRET);
    redaction.learn("ab");
    assert_eq!(redaction.of("x=/hunter2hunter2/ab"), "x=/***/ab");
    assert_eq!(redaction.of("aHVudGVyMmh1bnRlcjI="), "***=");
}

#[test]
fn secret_arguments_of_a_spec_are_known_elsewhere() {
    let mut redaction = Redaction::default();
    redaction.learn_arguments_of(
        "- kernelCmdlineArgs: \"console=tty0 a.b=hunter2one\"\n  c: d\n- kernelCmdlineArgs: >-\n    quiet\n    c.d=hunter2two\n  e: f=hunter2three\n",
    );
    assert_eq!(redaction.of("GET /x/hunter2one hunter2two hunter2three tty0"), "GET /x/*** *** hunter2three tty0");
}
