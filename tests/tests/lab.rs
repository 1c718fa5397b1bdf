//! The lab's own tests.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::ensure;
use pxe_lab::{Bridged, Namespace, Process, suite};

fn main() -> ExitCode {
    suite::main(vec![
        suite::test("namespace_is_deleted_even_after_a_panic", namespace_is_deleted_even_after_a_panic),
        suite::test("clients_reach_the_server_over_the_bridge", clients_reach_the_server_over_the_bridge),
    ])
}

fn namespace_is_deleted_even_after_a_panic() -> anyhow::Result<()> {
    let namespace = Namespace::new("panic")?;
    let file = Path::new("/run/netns").join(namespace.name());
    ensure!(file.exists(), "{} was not created", file.display());
    let outcome = std::thread::spawn(move || {
        let _held = namespace;
        std::panic::resume_unwind(Box::new("on purpose"));
    })
    .join();
    ensure!(outcome.is_err() && !file.exists(), "{} is still there", file.display());
    Ok(())
}

fn clients_reach_the_server_over_the_bridge() -> anyhow::Result<()> {
    let bridged = Bridged::new("10.99.0.1/24", 2)?;
    for (number, client) in bridged.clients.iter().enumerate() {
        client.ip(&["address", "add", &format!("10.99.0.{}/24", 10 + number), "dev", "eth0"])?;
    }
    let listener = bridged.server.enter(|| std::net::TcpListener::bind("10.99.0.1:7"))??;
    for client in &bridged.clients {
        client.enter(|| {
            std::net::TcpStream::connect_timeout(&"10.99.0.1:7".parse()?, Duration::from_secs(5))
                .map_err(anyhow::Error::from)
        })??;
        listener.accept()?;
    }
    let mut inside = Process::spawn("ip", bridged.server.command("ip").args(["-brief", "address"]))?;
    ensure!(inside.wait(Duration::from_secs(5))?.success(), "ip failed");
    ensure!(inside.output().contains("10.99.0.1/24"), "not in the server's namespace: {}", inside.output());
    Ok(())
}
