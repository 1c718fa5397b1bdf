//! `pxed validate` and `pxed fetch` with the spec from the API.

use std::{path::Path, process::Output, time::Duration};

use anyhow::ensure;
use pxe_lab::{
    Artifacts, Namespace, build,
    cluster::{Machine, VERSION, cluster},
    kubernetes::{Account, ApiServer},
};

/// A host that reaches the API server, and an account there.
struct Host {
    api: ApiServer,
    account: Account,
    host: Namespace,
}

impl Host {
    fn pxed(&self, arguments: &[&str], rest: &[&str]) -> anyhow::Result<Said> {
        let mut command = self.host.command(build::pxed()?.path);
        command.env("PXED_OFFLINE", "true").args(arguments);
        command.arg("--kubernetes").arg("--kubeconfig").arg(self.account.kubeconfig()).args(rest);
        let Output { status, stdout, stderr } = command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { status: status.code(), out: text(&stdout), err: text(&stderr) })
    }

    fn validate(&self, rest: &[&str]) -> anyhow::Result<Said> {
        self.pxed(&["validate"], rest)
    }

    fn plan(&self, artifacts: &Path) -> anyhow::Result<Said> {
        self.pxed(&["fetch", "--plan"], &["--artifacts", &artifacts.to_string_lossy()])
    }
}

/// What a command said.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Fails unless the command ended with this status and said each of these.
    fn is(&self, status: i32, parts: &[&str]) -> anyhow::Result<()> {
        ensure!(self.status == Some(status), "{self:#?}");
        for part in parts {
            ensure!(self.out.contains(part) || self.err.contains(part), "{part:?} is not in {self:#?}");
        }
        Ok(())
    }
}

pub(crate) fn read_the_api() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    let account = api.pxed_account("pxed")?;
    let host = Namespace::new("host")?;
    api.connect(&host)?;
    let host = Host { api, account, host };
    let empty = tempfile::tempdir()?;
    host.validate(&[])?.is(1, &["install the CustomResourceDefinitions of talos-operator"])?;
    host.plan(empty.path())?.is(1, &["install the CustomResourceDefinitions of talos-operator"])?;

    host.api.define_resources()?;
    let machines = [Machine::number(1), Machine::number(2)];
    host.api.apply(&cluster(&machines))?;
    host.validate(&[])?.is(0, &["1 cluster, 2 machines on"])?;
    let kubeconfig = host.account.kubeconfig().display().to_string();
    let missing = format!("pxed fetch --kubernetes --kubeconfig {kubeconfig}");
    host.plan(empty.path())?.is(1, &[VERSION, &missing])?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let there = host.plan(artifacts.path())?;
    ensure!(there.out.contains(VERSION) && there.status.is_some_and(|status| status <= 1), "{there:#?}");

    // A copy in another namespace, and a name that the file system might take for a path.
    host.api.kubectl(&["create", "namespace", "other"])?;
    let copy = cluster(&machines[1..]).replace("  name: lab\n", "  name: lab\n  namespace: other\n");
    host.api.apply(&copy)?;
    let objects = ["TalosCluster other/lab", "TalosCluster default/lab"];
    host.validate(&[])?.is(1, &[&objects[..], &["error: ", "2 errors"]].concat())?;
    let json: serde_json::Value = serde_json::from_str(&host.validate(&["--json"])?.out)?;
    ensure!(json["valid"] == false && json["errors"][0].to_string().contains(objects[0]), "{json:#}");
    host.validate(&["--namespace", "default"])?.is(0, &["1 cluster, 2 machines on"])?;
    host.validate(&["--namespace", "other"])?.is(0, &["1 cluster, 1 machine on"])?;

    host.account.set_token(&host.api.token(&host.account, Duration::ZERO)?)?;
    host.validate(&[])?.is(1, &["does not accept the credentials"])?;
    host.api.kill();
    host.validate(&[])?.is(1, &["cannot be reached"])?;
    host.plan(empty.path())?.is(1, &["cannot be reached"])
}
