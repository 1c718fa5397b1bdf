//! pxed as in a pod: the service account is all that it has.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Pxed,
    cluster::{Machine, SERVER_ADDRESS, VERSION, cluster},
    kubernetes::{ApiServer, ServiceAccountVolume},
    pxed::Launch,
    suite,
};

use crate::fleet::{SOON, knows};

/// The time in which the settings are read again after some failures.
const READ_AGAIN: Duration = Duration::from_secs(90);

/// Without the files, with another authority than the server's, with the right one, and with a token that is replaced.
pub(crate) fn service_account() -> anyhow::Result<()> {
    let api = ApiServer::start()?;
    api.define_resources()?;
    let account = api.pxed_account("machines")?;
    let network = Bridged::new(SERVER_ADDRESS, 1)?;
    api.connect(&network.server)?;
    let machines = [Machine::number(1), Machine::number(2)];
    api.apply(&cluster(&machines[..1]))?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 1000)?;
    let launch = |directory: &std::path::Path| {
        let launch = Launch { service_account: Some(directory), ..Launch::default() };
        Pxed::launch_by(&network.server, "", artifacts.path(), &["--node-name", "pod"], &launch)
    };

    let empty = tempfile::tempdir()?;
    let mut pxed = launch(empty.path())?;
    let status = pxed.process.wait(SOON)?;
    let said = pxed.process.output();
    ensure!(!status.success() && said.contains("the service account of this pod: "), "{status}: {said}");
    ensure!(said.contains("set automountServiceAccountToken") && said.contains("--kubeconfig FILE"), "{said}");

    let mut volume = ServiceAccountVolume::new(&account)?;
    let authority = volume.set_foreign_authority()?;
    let mut pxed = launch(volume.path())?;
    let ready = || network.server.http_get("http://127.0.0.1:8001/readyz");
    suite::eventually("the certificate is not trusted", SOON, || {
        Ok(matches!(ready(), Ok((503, reasons)) if reasons.contains("certificate")))
    })?;
    volume.set_authority(authority)?;
    suite::eventually("the authority is read again", READ_AGAIN, || {
        // It ends the pause before the next attempt.
        pxed.process.signal(Signal::SIGHUP)?;
        Ok(matches!(ready(), Ok((200, _))))
    })?;
    pxed.wait_until_ready()?;
    knows(&pxed, &machines[0])?;
    let own_lease = || api.kubectl(&["-n", "machines", "get", "lease", "pxed-pod", "-o", "jsonpath={.spec.renewTime}"]);
    suite::eventually("the Lease is in the namespace of the pod", SOON, || Ok(own_lease().is_ok()))?;

    // The token of before has become worthless, long before it is read again by itself.
    api.revoke_tokens()?;
    let before = own_lease()?;
    pxed.process.wait_for_line("does not accept the credentials", READ_AGAIN)?;
    volume.set_token(&api.token(&account, Duration::from_secs(600))?)?;
    api.apply(&cluster(&machines))?;
    pxed.eventually("the change is known", READ_AGAIN, |pxed| Ok(pxed.machine(&machines[1].mac).is_ok()))?;
    pxed.eventually("the Lease is renewed", SOON, |_| Ok(own_lease()? != before))?;
    pxed.eventually("no trouble", SOON, |pxed| Ok(pxed.metrics()?.sum("pxed_kubernetes_up", &[]) > 0.5))
}
