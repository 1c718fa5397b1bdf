//! Any text is read or refused, in a time that its length bounds.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{super::read, Files, cluster};

#[test]
fn hostile_texts_are_refused_or_read_quickly() {
    let laughs = (0..30).fold("x0: &x0 [ha, ha]\n".to_owned(), |text, n| {
        format!("{text}x{}: &x{} [*x{n}, *x{n}, *x{n}, *x{n}, *x{n}, *x{n}, *x{n}, *x{n}]\n", n + 1, n + 1)
    });
    let merges = (0..30).fold("x0: &x0 {a: b}\n".to_owned(), |text, n| {
        format!("{text}x{}: &x{} {{<<: [*x{n}, *x{n}, *x{n}, *x{n}]}}\n", n + 1, n + 1)
    });
    let cases = [
        ("billion laughs", format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n{laughs}")),
        ("billion laughs in a machine", cluster(&format!("      - {}", laughs.replace('\n', "\n        ")))),
        ("merge bomb", format!("apiVersion: v1\nkind: ConfigMap\n{merges}metadata: {{<<: *x30}}\n")),
        ("an alias to itself", "a: &a [*a]".to_owned()),
        ("an unknown alias", "a: *b".to_owned()),
        ("deep flow", "[".repeat(100_000)),
        ("deep blocks", "- ".repeat(20_000)),
        ("deep keys", "? ".repeat(20_000)),
        ("deep mappings", (0..500).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n")),
        ("many documents", "---\n".repeat(100_000)),
        ("many keys", (0..50_000).fold(String::new(), |text, n| format!("{text}k{n}: 1\n"))),
        ("many duplicate keys", "a: 1\n".repeat(50_000)),
        ("a long line", format!("a: {}", "b ".repeat(1_000_000))),
        ("a long quote", format!("a: \"{}", "\\n ".repeat(300_000))),
        ("a key that is a map", "{a: b}: c".to_owned()),
        ("only a tag", "!!binary".to_owned()),
        ("NUL", "a: \0\n".to_owned()),
    ];
    for (name, text) in cases {
        let begin = Instant::now();
        let content = read::read(&text);
        let taken = begin.elapsed();
        assert!(taken < Duration::from_secs(10), "{name}: {taken:?}");
        assert!(content.notes.errors.len() < 1100, "{name}");
    }
}

/// Returns a strategy for text of the pieces of a spec, in any order.
fn spec_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "apiVersion: talos.alperen.cloud/v1alpha1\n",
        "kind: TalosCluster\n",
        "kind: TalosWorker\n",
        "kind: TalosMachine\n",
        "kind: List\nitems:\n- ",
        "metadata:\n",
        "  name: a\n",
        "  annotations: {pxed.dev/boot-policy.52-54-00-00-00-11: hold}\n",
        "spec:\n",
        "  pxeServerSpec: {address: 10.0.0.1, interface: eth1}\n",
        "  mode: metal\n",
        "  worker:\n    mode: metal\n    metalSpec:\n      machines:\n",
        "  workerRef: {name: a}\n",
        "  metalSpec:\n    machines:\n",
        "    - address: 10.0.0.11\n",
        "      pxeClientSpec: &a {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}\n",
        "      machineRef: {kind: A, name: b, fieldPath: c}\n",
        "  endpoint: 10.0.0.11\n",
        "<<: *a\n",
        "---\n",
        "...\n",
        "\t",
        "  ",
        "- ",
        ": ",
        "{",
        "]",
        "\"",
        "|\n",
        "\u{feff}",
        "\r",
        "#",
        "? ",
        "&a ",
        "*a",
        "!!",
        "%",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Loads a file completely, with references and checks.
fn load(text: &[u8]) -> usize {
    let files = Files::new(&[]);
    files.write("c.yaml", text);
    match files.load() {
        Ok(loaded) => loaded.inventory.machines().len(),
        Err(errors) => errors.to_string().len(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        load(&bytes);
    }

    #[test]
    fn arbitrary_text_is_survived(text in "\\PC{0,200}|[-a:{}\\[\\]&*!|>'\"%@#,? \n\t\r]{0,120}") {
        load(text.as_bytes());
    }

    #[test]
    fn arbitrary_pieces_of_a_spec_are_survived(text in spec_like()) {
        load(text.as_bytes());
    }

    #[test]
    fn spec_with_changed_bytes_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = cluster("      - address: 10.0.0.11\n        pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}\n").into_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        load(&bytes);
    }
}
