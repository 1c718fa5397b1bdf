//! The dashboard in headless Chromium, with a pxed of ten thousand machines of which some boot. Screenshots are in `target/dashboard`, for
//! people: no test compares them.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pxe_lab::{
    Artifacts, Bridged, Browser, Datapath, Process, Pxed, build, cluster::VERSION, pxed::ADMIN, python, requires,
    suite, topology::INTERFACE,
};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
const MACHINES: u32 = 10_000;
/// The machines of the second cluster, the last ones.
const EDGE: u32 = 120;
const TOKEN: &str = "0123456789abcdef-dashboard";
const LATENCY: f64 = 200.0;
/// What a file is called that would run a script if a name became markup.
const HOSTILE: &str = "<img src=x onerror=document.title='taken'>";

/// Makes the violations of an axe-core run a list of texts.
const IN_WORDS: &str = ".then(({violations}) => violations.map(({id, nodes}) => \
                        `${id}: ${nodes.slice(0, 4).map((node) => `${node.html} ${node.failureSummary}`).join('; ')}`))";

fn main() -> ExitCode {
    suite::main(vec![suite::test("page_is_quick_accessible_and_true", page_is_quick_accessible_and_true)])
}

fn mac(number: u32) -> String {
    format!("52:54:00:99:{:02x}:{:02x}", number >> 8, number & 255)
}

fn address(number: u32) -> String {
    format!("10.99.{}.{}", 4 + number / 250, 1 + number % 250)
}

fn spec() -> String {
    let mut spec = String::new();
    for (cluster, machines) in [("lab", 0..MACHINES - EDGE), ("edge", MACHINES - EDGE..MACHINES)] {
        let _ = write!(
            spec,
            "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {{name: {cluster}}}
spec:
  pxeServerSpec: {{address: 10.99.0.1, interface: {INTERFACE}}}
  controlPlane:
    version: {VERSION}
    mode: metal
    metalSpec:
      machineSpec: {{meta: {{subnet: 16, gateway: 10.99.0.254, dnsServers: [10.99.0.53]}}}}
      machines:
"
        );
        for number in machines {
            let _ = writeln!(
                spec,
                "        - {{address: {}, pxeClientSpec: {{macAddress: \"{}\", cpuArchitecture: amd64}}}}",
                address(number),
                mac(number)
            );
        }
    }
    spec
}

/// A page in a browser, and what it belongs to.
struct Page<'n> {
    browser: Browser,
    network: &'n Bridged,
    axe: String,
    pictures: PathBuf,
    /// What is wrong, with the step at which it was seen.
    problems: Vec<String>,
}

impl Page<'_> {
    fn open(&mut self, view: &str) -> anyhow::Result<()> {
        self.browser.open(&format!("http://{ADMIN}{view}"))?;
        self.browser.wait_for("document.getElementById('connection-text').textContent === 'live'", SOON)
    }

    fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        self.browser.evaluate(expression)
    }

    fn is(&mut self, expression: &str) -> anyhow::Result<()> {
        let value = self.value(expression)?;
        ensure!(value == true, "{expression} is {value}");
        Ok(())
    }

    fn wait_for(&mut self, expression: &str) -> anyhow::Result<()> {
        self.browser.wait_for(expression, SOON)
    }

    fn picture(&mut self, name: &str) -> anyhow::Result<()> {
        let file = self.pictures.join(format!("{name}.png"));
        self.browser.screenshot(&file)
    }

    /// Lets axe-core look at the page as it is, in light and dark, between which only colours differ.
    fn is_accessible(&mut self, view: &str) -> anyhow::Result<()> {
        for scheme in ["light", "dark"] {
            self.browser.prefer(scheme)?;
            self.picture(&format!("{view}-{scheme}"))?;
            if self.value("typeof axe === 'undefined'")? == true {
                let script = std::mem::take(&mut self.axe);
                self.value(&format!("{script}; 0"))?;
                self.axe = script;
            }
            let rules = if scheme == "light" { "" } else { ", runOnly: ['color-contrast', 'link-in-text-block']" };
            let options = format!("{{resultTypes: ['violations']{rules}}}");
            let found = self.value(&format!("axe.run(document, {options}){IN_WORDS}"))?;
            let violations = found.as_array().context("axe-core has found nothing to say")?;
            self.problems.extend(violations.iter().map(|violation| format!("{view}, {scheme}: {violation}")));
        }
        self.browser.prefer("light")
    }

    /// Runs simulated machines with iPXE in their network cards, beside the test.
    fn boot(&self, machines: std::ops::Range<u32>) -> anyhow::Result<Process> {
        self.boot_by("ipxe", machines)
    }

    fn boot_by(&self, firmware: &str, machines: std::ops::Range<u32>) -> anyhow::Result<Process> {
        let client = self.network.clients.first().context("a client")?;
        let macs: Vec<_> = machines.map(mac).collect();
        let mut command = client.command(build::pxed()?.path);
        command
            .args(["rehearse", "--interface", INTERFACE, "--hurry", "--firmware", firmware, "--mac"])
            .arg(macs.join(","));
        Process::spawn("rehearse", &mut command)
    }

    fn step(&mut self, name: &str, run: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        let begin = Instant::now();
        if let Err(error) = run(self) {
            self.problems.push(format!("{name}: {error:#}"));
        }
        let wrong = self.browser.take_problems();
        self.problems.extend(wrong.into_iter().map(|problem| format!("{name}: {problem}")));
        eprintln!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
    }
}

fn page_is_quick_accessible_and_true() -> anyhow::Result<()> {
    requires::root()?;
    let axe = python::axe_core()?;
    let network = Bridged::new("10.99.0.1/16", 1)?;
    let browser = Browser::start(&network.server)?;
    let artifacts = Artifacts::stand_ins(&[VERSION], 200_000)?;
    let directory = TempDir::new()?;
    let token = directory.path().join("token");
    fs::write(&token, TOKEN)?;
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let token = token.to_str().context("a path that is not UTF-8")?;
    let arguments: Vec<_> = Datapath::Socket.arguments().into_iter().chain(["--admin-token", token]).collect();
    let mut pxed = Pxed::start(&network.server, &spec(), artifacts.path(), &arguments)?;
    let pictures = build::target().join("dashboard");
    fs::create_dir_all(&pictures)?;
    let mut page = Page { browser, network: &network, axe, pictures, problems: Vec::new() };
    page.browser.resize(1440, 900)?;
    page.browser.prefer("light")?;
    page.step("changes_are_seen_at_once", changes_are_seen_at_once);
    page.step("focus_selection_and_scroll_survive", focus_selection_and_scroll_survive);
    page.step("keyboard_suffices", keyboard_suffices);
    page.step("boot_that_has_ended_is_not_under_way", boot_that_has_ended_is_not_under_way);
    page.step("link_opens_the_same_view", link_opens_the_same_view);
    page.step("decision_needs_the_token", |page| decision_needs_the_token(page, &pxed));
    page.step("names_are_no_markup", |page| names_are_no_markup(page, &pxed));
    page.step("views_are_accessible", views_are_accessible);
    page.step("narrow_window_has_no_sideways_scroll", narrow_window_has_no_sideways_scroll);
    page.step("lost_connection_is_said", |page| lost_connection_is_said(page, &mut pxed, &artifacts, &arguments));
    ensure!(page.problems.is_empty(), "{}", page.problems.join("\n"));
    Ok(())
}

/// An event is seen within 200 ms, and what the page reads is bounded by the fleet.
fn changes_are_seen_at_once(page: &mut Page<'_>) -> anyhow::Result<()> {
    page.open("/")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")?;
    page.is("document.querySelectorAll('#table tbody tr').length === 50")?;
    // The machine of the first row is the first of the spec. Its clock is that of the host.
    page.value(
        "window.seen = []; const cell = document.querySelector('#table tbody tr td.c-stage span'); \
         new MutationObserver(() => window.seen.push([Date.now(), cell.textContent])).observe(cell, {characterData: true, childList: true, subtree: true}); 0",
    )?;
    let boot = page.boot(0..1)?;
    page.wait_for("window.seen.length > 0 && document.getElementById('up').textContent === '1' || window.seen.some(([, stage]) => stage === 'booting')")?;
    let late = page.value(&format!(
        "fetch('/api/v1/machines/{}').then((answer) => answer.json()).then(({{events}}) => window.seen.map(([at]) => \
         Math.min(...events.map((event) => at - Date.parse(event.at)).filter((late) => late >= -2))))",
        mac(0)
    ))?;
    let late: Vec<f64> = late.as_array().context("no times")?.iter().filter_map(Value::as_f64).collect();
    let best = late.iter().copied().fold(f64::INFINITY, f64::min);
    eprintln!("changes were seen after {late:?} ms");
    ensure!(best <= LATENCY, "changes were seen after {late:?} ms");
    drop(boot);
    Ok(())
}

fn focus_selection_and_scroll_survive(page: &mut Page<'_>) -> anyhow::Result<()> {
    page.open("/")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")?;
    page.value(
        "scrollTo(0, 400); window.row = document.querySelectorAll('#table tbody tr')[5]; row.mark = 1; window.top0 = scrollY; \
         row.querySelector('a').focus({preventScroll: true}); getSelection().selectAllChildren(row.querySelector('.c-mac')); window.before = document.getElementById('up').textContent; 0",
    )?;
    let before = page.value("getSelection().toString()")?;
    ensure!(before.as_str().is_some_and(|text| text.starts_with("52:54")), "{before}");
    let boot = page.boot(0..30)?;
    page.wait_for("document.querySelectorAll('#table tbody tr.look-initramfs, #table tbody tr.look-kernel, #table tbody tr.look-running').length > 20")?;
    page.is("document.querySelectorAll('#table tbody tr')[5] === row && row.mark === 1")?;
    page.is("document.activeElement === row.querySelector('a')")?;
    page.is("scrollY === top0")?;
    let after = page.value("getSelection().toString()")?;
    ensure!(after == before, "{after} was selected, and not {before}");
    page.picture("storm")?;
    drop(boot);
    Ok(())
}

/// UEFI asks for its loader twice, the first time only for its size.
fn boot_that_has_ended_is_not_under_way(page: &mut Page<'_>) -> anyhow::Result<()> {
    let boot = page.boot_by("uefi-x64", 50..51)?;
    page.open(&format!("/?machine={}", mac(50)))?;
    page.wait_for("document.querySelector('.stage').textContent.includes('running')")?;
    page.wait_for(
        "[...document.querySelectorAll('.waterfall th')].some((name) => name.textContent.startsWith('initramfs'))",
    )?;
    page.wait_for("/^Began .*, last event /.test(document.querySelector('.waterfall caption').textContent)")?;
    page.is("[...document.querySelectorAll('.waterfall th')].filter((name) => name.textContent.startsWith('loader')).length === 1")?;
    page.is("![...document.querySelectorAll('.waterfall .took')].some((took) => took.textContent === 'under way')")?;
    drop(boot);
    page.open("/?page=server")?;
    page.wait_for("document.querySelector('#wide-nodes td')?.textContent === 'alive'")?;
    page.is("document.querySelector('#page-server').textContent.includes('onfined by user: ')")
}

fn keyboard_suffices(page: &mut Page<'_>) -> anyhow::Result<()> {
    page.open("/")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")?;
    page.browser.press("Tab", 9)?;
    page.is("document.activeElement.className === 'skip'")?;
    for _ in 0..40 {
        page.browser.press("Tab", 9)?;
        if page.value("document.activeElement.id")? == "grid" {
            break;
        }
    }
    page.is("document.activeElement.id === 'grid'")?;
    for (key, code) in [("End", 35), ("Home", 36), ("ArrowRight", 39), ("ArrowDown", 40), ("ArrowUp", 38)] {
        page.browser.press(key, code)?;
    }
    let said = page.value("document.getElementById('grid-said').textContent")?;
    ensure!(said.as_str().is_some_and(|text| text.contains(&mac(1)) || text.contains("52:54:00:99")), "{said}");
    page.browser.press("Enter", 13)?;
    page.wait_for(
        "location.search.startsWith('?machine=52:54:00:99') && document.activeElement.id === 'machine-title'",
    )?;
    page.wait_for("document.querySelector('.reached')?.textContent.length > 3")?;
    page.value("history.back()")?;
    page.wait_for("!document.getElementById('page-fleet').hidden")
}

fn link_opens_the_same_view(page: &mut Page<'_>) -> anyhow::Result<()> {
    let shown = "JSON.stringify([[...document.querySelectorAll('#table .c-address')].slice(1).map((cell) => cell.textContent), \
                 [...document.querySelectorAll('[aria-pressed=true]')].map((button) => button.textContent), document.getElementById('range').textContent])";
    page.open("/")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")?;
    page.value(
        "[...document.querySelectorAll('.cluster')].find((button) => button.textContent.startsWith('edge')).click()",
    )?;
    page.value("document.querySelector('.step[data-look=never-seen]').click()")?;
    for _ in 0..2 {
        page.value("document.querySelector('th[data-column=address] button').click()")?;
    }
    page.value("document.getElementById('next').click()")?;
    page.wait_for("document.getElementById('range').textContent === '51–100 of 120'")?;
    let (link, before) = (page.value("location.pathname + location.search")?, page.value(shown)?);
    ensure!(link == "/?cluster=edge&stage=never-seen&sort=-address&n=2", "{link}");
    page.open(link.as_str().unwrap_or_default())?;
    page.wait_for("document.getElementById('range').textContent === '51–100 of 120'")?;
    let after = page.value(shown)?;
    ensure!(after == before, "{after}\n{before}");
    // The search finds a MAC address in any spelling.
    for spelling in [mac(3), mac(3).replace(':', "-").to_uppercase(), mac(3).replace(':', ""), address(3)] {
        page.open(&format!("/?q={spelling}&sort=address"))?;
        page.wait_for(&format!("document.querySelector('#table tbody a')?.dataset.mac === '{}'", mac(3)))?;
    }
    page.open("/?stage=no-such-stage&sort=nonsense&n=-7&size=1e9&page=nothing")?;
    page.wait_for("document.getElementById('none').textContent.startsWith('No machine matches')")
}

fn decision_needs_the_token(page: &mut Page<'_>, pxed: &Pxed<'_>) -> anyhow::Result<()> {
    page.open(&format!("/?machine={}", mac(40)))?;
    let hold = "[...document.querySelectorAll('.decisions button')].find((button) => button.textContent === 'Hold')";
    page.wait_for(&format!("!{hold}.disabled"))?;
    page.value(&format!("{hold}.click()"))?;
    page.wait_for("document.getElementById('token-dialog').open && document.activeElement.id === 'token'")?;
    page.is_accessible("token")?;
    page.browser.type_text("not-the-token-of-pxed")?;
    page.browser.press("Enter", 13)?;
    page.wait_for("document.getElementById('token-why').textContent.startsWith('That was not')")?;
    page.wait_for("document.activeElement.id === 'token'")?;
    ensure!(pxed.machine(&mac(40))?["policy"] == "auto", "it is held without the token");
    page.browser.type_text(TOKEN)?;
    page.browser.press("Enter", 13)?;
    page.wait_for("document.querySelector('.said').textContent.startsWith('Held')")?;
    ensure!(pxed.machine(&mac(40))?["policy"] == "hold", "it is not held");
    page.wait_for("document.querySelector('.facts').textContent.includes('hold')")?;
    page.value("[...document.querySelectorAll('.decisions button')].find((button) => button.textContent === 'Release').click()")?;
    page.wait_for("document.querySelector('.said').textContent.startsWith('Released')")?;
    ensure!(pxed.machine(&mac(40))?["policy"] == "auto", "it is still held");
    Ok(())
}

fn names_are_no_markup(page: &mut Page<'_>, pxed: &Pxed<'_>) -> anyhow::Result<()> {
    let client = page.network.clients.first().context("a client")?;
    client.ip(&["address", "add", &format!("{}/16", address(2)), "dev", INTERFACE])?;
    let path: String = HOSTILE.bytes().fold(String::new(), |mut path, byte| {
        let _ = write!(path, "%{byte:02x}");
        path
    });
    client.run(
        "curl",
        &["-s", "--max-time", "10", "--interface", &address(2), &format!("http://10.99.0.1:8000/assets/{path}")],
    )?;
    // The spec is no more trusted: its mistakes are quoted.
    let broken = spec().replacen(&mac(9), HOSTILE, 1).replacen(
        &format!("{{address: {}, ", address(11)),
        &format!("{{address: \"{HOSTILE}\", "),
        1,
    );
    pxed.rewrite_spec(&broken)?;
    page.open(&format!("/?machine={}", mac(2)))?;
    page.wait_for("document.querySelector('#server-banners')?.textContent.includes('<img')")?;
    page.wait_for("document.querySelector('.log')?.textContent.includes('img')")?;
    for view in [
        "/?page=server".to_owned(),
        "/?page=strangers".to_owned(),
        format!("/?q={path}"),
        format!("/?machine={path}"),
        format!("/?cluster={path}&stage={path}"),
    ] {
        page.open(&view)?;
        page.wait_for("document.querySelector('#server-banners')?.textContent.includes('<img')")?;
        page.is("document.images.length === 0 && !document.title.includes('taken')")?;
    }
    pxed.rewrite_spec(&spec())?;
    page.wait_for("document.getElementById('server-banners').textContent === ''")
}

fn views_are_accessible(page: &mut Page<'_>) -> anyhow::Result<()> {
    for (name, view) in [
        ("fleet", "/"),
        ("filtered", "/?stage=failed&stage=initramfs&cluster=lab"),
        ("empty", "/?q=nothing-has-this-name"),
        ("machine", &format!("/?machine={}", mac(0))),
        ("unknown", "/?machine=52:54:00:00:00:00"),
        ("strangers", "/?page=strangers"),
        ("images", "/?page=images"),
        ("server", "/?page=server"),
    ] {
        page.open(view)?;
        page.wait_for("document.querySelector('main > section:not([hidden]) :is(.waterfall, .empty, tbody tr, .reached)') !== null")?;
        page.is_accessible(name)?;
    }
    Ok(())
}

fn narrow_window_has_no_sideways_scroll(page: &mut Page<'_>) -> anyhow::Result<()> {
    page.browser.resize(390, 844)?;
    for (name, view) in [
        ("fleet", "/".to_owned()),
        ("filtered", "/?stage=running&stage=never-seen&cluster=lab&q=52:54".to_owned()),
        ("machine", format!("/?machine={}", mac(0))),
        ("strangers", "/?page=strangers".to_owned()),
        ("images", "/?page=images".to_owned()),
        ("server", "/?page=server".to_owned()),
    ] {
        page.open(&view)?;
        page.wait_for(
            "document.querySelector('main > section:not([hidden]) :is(.waterfall, .empty, tbody tr)') !== null",
        )?;
        let width = page.value("document.documentElement.scrollWidth")?;
        ensure!(width.as_u64().is_some_and(|width| width <= 390), "{name} is {width} pixels wide");
        page.picture(&format!("narrow-{name}"))?;
    }
    page.browser.resize(1440, 900)
}

fn lost_connection_is_said(
    page: &mut Page<'_>,
    pxed: &mut Pxed<'_>,
    artifacts: &Artifacts,
    arguments: &[&str],
) -> anyhow::Result<()> {
    page.open("/")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")?;
    pxed.process.signal(Signal::SIGKILL)?;
    pxed.process.wait(SOON)?;
    page.browser.wait_for(
        "!document.getElementById('lost').hidden && document.body.classList.contains('stale')",
        Duration::from_secs(2),
    )?;
    let text = page.value("document.getElementById('lost-text').textContent")?;
    ensure!(text.as_str().is_some_and(|text| text.starts_with("No connection to pxed since")), "{text}");
    page.is("document.title.startsWith('Connection lost')")?;
    page.is_accessible("lost")?;
    pxed.start_again(artifacts.path(), arguments)?;
    page.wait_for("document.getElementById('lost').hidden && !document.body.classList.contains('stale')")?;
    page.wait_for("document.getElementById('total').textContent === '10,000'")
}
