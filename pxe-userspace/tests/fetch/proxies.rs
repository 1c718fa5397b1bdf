//! The proxies that the environment names. Each fetch is a process of its own, since a process cannot change its environment safely.

use std::{
    env,
    net::TcpListener,
    process::{Command, Output},
};

use crate::{
    lab::{KERNEL, Lab, SHA256SUM, SHA512SUM, kernel, publish, release_kernel},
    server::{Behaviour, Server},
};

/// Names the upstream to the process that fetches.
const UPSTREAM: &str = "PXED_TEST_UPSTREAM";

/// Fetches a kernel of a release from this upstream in a process with these variables, and no other that names a proxy.
fn fetch(upstream: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "proxies::fetches_in_a_process_of_its_own", "--ignored", "--nocapture"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.env(UPSTREAM, upstream).envs(variables.iter().copied()).output().unwrap()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn fails(output: &Output, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
#[ignore = "the other tests run it with a proxy in its environment"]
fn fetches_in_a_process_of_its_own() {
    let Ok(upstream) = env::var(UPSTREAM) else { return };
    let mut lab = Lab::new(&Server::start());
    lab.config.upstreams.talos = upstream.as_str().into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(lab.fetch(&release_kernel())) {
        Ok(_) => assert!(lab.content(&release_kernel()).is_some()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn proxy_of_the_environment_is_asked_with_its_password() {
    let proxy = Server::start();
    // A host that only the proxy can reach.
    let upstream = "http://mirror.invalid/talos";
    publish(&proxy, &kernel(100_000, 1));
    let of_upstream = |path: &str| format!("http://mirror.invalid{path}");
    for path in [KERNEL, SHA256SUM, SHA512SUM] {
        proxy.put(&of_upstream(path), &proxy.content(path));
    }
    let url = proxy.url("").replace("http://", "http://me:secret@");
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        succeeds(&fetch(upstream, &[(variable, &url)]));
        let request = proxy.requests(&of_upstream(KERNEL)).pop().unwrap();
        let authorization = request.header("proxy-authorization").unwrap_or_default();
        assert!(authorization.starts_with("Basic "), "{variable}: {request:?}");
    }
}

#[test]
fn host_that_no_proxy_names_is_asked_directly() {
    let server = Server::start();
    publish(&server, &kernel(100_000, 1));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://{nobody}");
    let upstream = server.url("/talos");
    let refused = ["(or the proxy that http_proxy names) refused the connection"];
    fails(&fetch(&upstream, &[("http_proxy", &proxy)]), &refused);
    let unknown = ["the name mirror.invalid (or the proxy that HTTP_PROXY names) cannot be resolved"];
    fails(&fetch("http://mirror.invalid/talos", &[("HTTP_PROXY", "http://proxy.invalid:3128")]), &unknown);
    let tunnel = ["the proxy", "HTTPS_PROXY"];
    fails(&fetch("https://mirror.invalid/talos", &[("HTTPS_PROXY", "http://proxy.invalid:3128")]), &tunnel);
    assert_eq!(server.request_count(), 0);
    succeeds(&fetch(&upstream, &[("http_proxy", &proxy), ("no_proxy", "localhost,127.0.0.1")]));
}

#[test]
fn proxy_that_refuses_is_named_as_the_reason() {
    let proxy = Server::start();
    let upstream = "https://mirror.invalid/talos";
    let url = proxy.url("").replace("http://", "http://me:secret@");
    for (status, reason) in [(407, "user and a password"), (403, "proxy")] {
        proxy.always("mirror.invalid:443", Behaviour::Status(status, Vec::new()));
        let output = fetch(upstream, &[("https_proxy", &url)]);
        fails(&output, &["proxy", reason]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "{output:?}");
    }
    assert!(!proxy.requests("mirror.invalid:443").is_empty(), "the connection is to go through the proxy");
}
