//! The software bill of materials, in CycloneDX's JSON: what is in the program, with versions, licences and checksums.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::release::Release;

/// The crate of the program.
const ROOT: &str = "pxe-userspace";

/// Returns the bill of materials of the program.
///
/// # Errors
///
/// Fails if cargo or the compiler do not tell what they use.
pub(super) fn sbom(workspace: &Path, release: &Release) -> Result<String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(&release.target);
    let metadata: Value = serde_json::from_str(&output(&mut cargo)?).context("cargo metadata")?;
    let lock = fs::read_to_string(workspace.join("Cargo.lock")).context("Cargo.lock")?;
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let foundations = [
        ("rust-std", output(Command::new(rustc).arg("--version"))?, "MIT OR Apache-2.0"),
        ("glibc", output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?, "LGPL-2.1-or-later"),
    ];
    let foundations = foundations.map(|(name, version, licence)| {
        let version = version.split_whitespace().nth(1).unwrap_or_default().to_owned();
        json!({"type": "library", "bom-ref": name, "name": name, "version": version, "licenses": [{"expression": licence}]})
    });
    let bill = bill(&metadata, &checksums(&lock)?, &foundations, release)?;
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

/// Returns the checksums of the crates by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let of = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let known = |package| Some(((of(package, "name")?, of(package, "version")?), of(package, "checksum")?));
    Ok(packages.iter().filter_map(known).collect())
}

fn bill(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    foundations: &[Value],
    release: &Release,
) -> Result<Value> {
    let packages = list(&metadata["packages"]);
    let packages: BTreeMap<&str, &Value> = packages.iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let nodes: BTreeMap<&str, &Value> = nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let root = packages.values().find(|package| package["name"] == ROOT).context("cargo metadata lacks the program")?;

    let mut linked = BTreeMap::new();
    let mut waiting = vec![text(&root["id"])];
    while let Some(id) = waiting.pop() {
        if linked.contains_key(id) {
            continue;
        }
        let node = nodes.get(id).with_context(|| format!("cargo metadata does not resolve {id}"))?;
        let dependencies: BTreeSet<&str> = list(&node["deps"])
            .iter()
            .filter(|dependency| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()))
            .map(|dependency| text(&dependency["pkg"]))
            .filter(|id| packages.get(id).is_some_and(|package| !is_macro(package)))
            .collect();
        waiting.extend(&dependencies);
        linked.insert(id, dependencies);
    }

    let reference = |id: &str| packages.get(id).map(|package| purl(package)).unwrap_or_default();
    let mut components = BTreeMap::new();
    for id in linked.keys().filter(|id| **id != text(&root["id"])) {
        let package = packages[id];
        let mut component = json!({"type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"]});
        if let Some(licence) = package["license"].as_str() {
            // Old crates separate the licences by a slash.
            component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
        }
        let key = (text(&package["name"]).to_owned(), text(&package["version"]).to_owned());
        if let Some(checksum) = checksums.get(&key) {
            component["purl"] = json!(purl(package));
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        components.insert(purl(package), component);
    }
    let mut dependencies = BTreeMap::new();
    for (id, needed) in &linked {
        let mut needed: Vec<_> = needed.iter().map(|id| reference(id)).collect();
        needed.sort();
        dependencies.insert(reference(id), json!({"ref": reference(id), "dependsOn": needed}));
    }
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": release.timestamp(),
            "component": {
                "type": "application",
                "bom-ref": purl(root),
                "name": "pxed",
                "version": release.version,
                "licenses": [{"expression": root["license"]}],
            },
        },
        "components": foundations.iter().cloned().chain(components.into_values()).collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

fn is_macro(package: &Value) -> bool {
    list(&package["targets"]).iter().any(|target| list(&target["kind"]).iter().any(|kind| kind == "proc-macro"))
}

fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "targets": [{"kind": [kind]}]})
    }

    fn dependency(name: &str, kind: &Value) -> Value {
        json!({"pkg": name, "dep_kinds": [{"kind": kind}]})
    }

    #[test]
    fn bill_has_what_is_linked_and_nothing_else() {
        let metadata = json!({
            "packages": [
                package(ROOT, "bin"), package("direct", "lib"), package("indirect", "lib"), package("builder", "lib"),
                package("tester", "lib"), package("derive", "proc-macro"), package("behind-derive", "lib"), package("other", "lib"),
            ],
            "resolve": {"nodes": [
                {"id": ROOT, "deps": [
                    dependency("direct", &Value::Null), dependency("builder", &json!("build")),
                    dependency("tester", &json!("dev")), dependency("derive", &Value::Null),
                ]},
                {"id": "direct", "deps": [dependency("indirect", &Value::Null)]},
                {"id": "indirect", "deps": []},
                {"id": "derive", "deps": [dependency("behind-derive", &Value::Null)]},
            ]},
        });
        let checksums = checksums("[[package]]\nname = \"direct\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n").unwrap();
        let release = Release {
            version: "0.1.0".to_owned(),
            revision: String::new(),
            time: 0,
            target: "x86_64-unknown-linux-gnu".to_owned(),
        };
        let bill = bill(&metadata, &checksums, &[], &release).unwrap();
        assert_eq!(
            bill["components"],
            json!([
                {
                    "type": "library", "bom-ref": "pkg:cargo/direct@1.0.0", "purl": "pkg:cargo/direct@1.0.0", "name": "direct",
                    "version": "1.0.0", "licenses": [{"expression": "MIT OR Apache-2.0"}], "hashes": [{"alg": "SHA-256", "content": "abc"}],
                },
                {
                    "type": "library", "bom-ref": "pkg:cargo/indirect@1.0.0", "name": "indirect", "version": "1.0.0",
                    "licenses": [{"expression": "MIT OR Apache-2.0"}],
                },
            ])
        );
        assert_eq!(
            bill["dependencies"],
            json!([
                {"ref": "pkg:cargo/direct@1.0.0", "dependsOn": ["pkg:cargo/indirect@1.0.0"]},
                {"ref": "pkg:cargo/indirect@1.0.0", "dependsOn": []},
                {"ref": "pkg:cargo/pxe-userspace@1.0.0", "dependsOn": ["pkg:cargo/direct@1.0.0"]},
            ])
        );
    }
}
