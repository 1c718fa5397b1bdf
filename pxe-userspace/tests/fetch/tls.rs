//! HTTPS: authorities, names, times, and what lies on the way.

use std::fs;

use crate::{
    lab::{KERNEL, Lab, kernel, publish, release_kernel},
    server::{Authority, Server, self_signed},
};

const YEARS: (i32, i32) = (2020, 4000);

/// Returns a lab that trusts this authority.
fn lab(server: &Server, authority: Option<&Authority>) -> Lab {
    publish(server, &kernel(100_000, 1));
    let mut lab = Lab::new(server);
    if let Some(authority) = authority {
        let file = lab.root().join("ca.pem");
        fs::write(&file, &authority.pem).unwrap();
        lab.config.ca_certificates = Some(file);
    }
    lab
}

async fn refused(lab: &Lab, parts: &[&str]) {
    let message = lab.failure(&release_kernel()).await;
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert_eq!(lab.pauses(), 0, "{message}");
}

#[tokio::test]
async fn authority_of_the_site_is_trusted_if_it_is_named() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("localhost", YEARS));
    lab(&server, Some(&authority)).fetch(&release_kernel()).await.unwrap();
    let unknown = ["certificate of localhost", "does not know the authority", "--ca-certificates"];
    refused(&lab(&server, None), &unknown).await;
    // It has the same name, and another key.
    let other = ["certificate of localhost", "not of the authority", "--ca-certificates"];
    refused(&lab(&server, Some(&Authority::new())), &other).await;
}

#[tokio::test]
async fn certificate_of_another_time_or_name_is_refused() {
    let authority = Authority::new();
    for (name, years, reason) in [
        ("localhost", (2001, 2002), "it has expired"),
        ("localhost", (3999, 4000), "it is not valid yet"),
        ("mirror.example", YEARS, "it is not for the name localhost"),
    ] {
        let server = Server::start_tls(authority.server(name, years));
        refused(&lab(&server, Some(&authority)), &["certificate of localhost", reason, "check this host's clock"])
            .await;
    }
}

#[tokio::test]
async fn certificate_that_signs_itself_is_refused() {
    let server = Server::start_tls(self_signed(false));
    refused(&lab(&server, None), &["certificate of localhost", "--ca-certificates"]).await;
    let server = Server::start_tls(self_signed(true));
    refused(&lab(&server, None), &["certificate of localhost", "CA:TRUE"]).await;
}

#[tokio::test]
async fn redirect_to_http_is_not_followed() {
    let authority = Authority::new();
    let (server, plain) = (Server::start_tls(authority.server("localhost", YEARS)), Server::start());
    let lab = lab(&server, Some(&authority));
    publish(&plain, &kernel(100_000, 1));
    server.redirect(KERNEL, &plain.url(KERNEL));
    refused(&lab, &["redirects from https to", &plain.url(KERNEL)]).await;
    assert_eq!(plain.request_count(), 0);
    // The other way round is fine.
    plain.redirect(KERNEL, &server.url("/elsewhere"));
    server.put("/elsewhere", &kernel(100_000, 1));
    let mut lab = lab;
    lab.config.upstreams.talos = plain.url("/talos").into();
    lab.fetch(&release_kernel()).await.unwrap();
}

#[tokio::test]
async fn port_without_tls_is_told() {
    let server = Server::start();
    let lab = lab(&server, None);
    let mut lab = lab;
    lab.config.upstreams.talos = server.url("/talos").replace("http:", "https:").into();
    let message = lab.failure(&release_kernel()).await;
    assert!(message.contains("TLS with 127.0.0.1") && message.contains("speaks HTTPS"), "{message}");
}
