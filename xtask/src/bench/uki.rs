//! pxed's unified kernel images beside its plain files: the throughput of large ones, and what each machine of a fleet costs.

use std::{fs, io::Write as _, net::SocketAddrV4, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use pxe_lab::{
    Pxed,
    assets::{Architecture, Edition},
    signing::SigningKey,
    uki,
};
use tempfile::TempDir;

use super::{
    cpu::{self, Cpu, Meter},
    lab::{self, Pair, SERVER, Sizes},
    load::http::{self, HttpLoad, HttpOutcome, Target},
    plan::Plan,
    report::{Chapter, Goal, Samples, Table, ratio},
};

const MACHINES: u32 = 10_000;
const PORT: u16 = 8000;

/// The length of a large initramfs, which most of an image is.
const LARGE: usize = 100 << 20;
/// The length of a small one, so that the cost of a machine is not that of its bytes.
const SMALL: usize = 64 << 10;

/// The duration of a load of large files.
const LOADING: Duration = Duration::from_secs(2);
/// The limit for a fleet.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of clients that load at the same time.
const CLIENTS: usize = 64;

/// The kind of file that the clients load.
#[derive(Clone, Copy, Debug)]
enum What {
    File,
    Image,
    SignedImage,
}

const ALL: [What; 3] = [What::File, What::Image, What::SignedImage];

#[derive(Default)]
struct Figures {
    rate: Samples,
    cpu: Samples,
    first_median_ms: Samples,
    first_99_ms: Samples,
    median_ms: Samples,
    slowest_ms: Samples,
}

/// Measures images and files.
///
/// # Errors
///
/// Fails if pxed or an EFI stub is missing, or if a request fails.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Chapter> {
    let mut chapter = Chapter {
        title: "Unified kernel images".to_owned(),
        text: format!(
            "Images that pxed makes for each machine while it sends them, and the initramfs in them as a plain file, in the same run: {CLIENTS} clients load \
             {} MiB again and again; then each of {MACHINES} machines loads its own small image once, {CLIENTS} at a time, until its last byte. The \
             signature is RSA-2048.",
            LARGE >> 20
        ),
        ..Chapter::default()
    };
    let key = SigningKey::generate("pxed benchmark")?;
    for (name, initramfs, requests) in [("large", LARGE, None), ("10,000 machines", SMALL, Some(MACHINES as usize))] {
        let bench = Bench::new(initramfs, requests)?;
        let mut figures = ALL.map(|_| Figures::default());
        for round in 0..plan.rounds {
            let mut order = ALL;
            order.rotate_left(round as usize % ALL.len());
            for what in order {
                let (outcome, cpu) = bench.measure(what, &key).with_context(|| format!("{name}, {what:?}"))?;
                figures[what as usize].push(requests.is_some(), &outcome, cpu);
            }
        }
        let [file, image, signed] = &figures;
        if requests.is_none() {
            for (kind, figures) in [("image", image), ("signed image", signed)] {
                let rate = ratio(figures.rate.median(), file.rate.median());
                chapter.goals.push(Goal::at_least(format!("throughput, {kind} ÷ file"), 0.95, rate));
            }
        } else {
            let cost = signed.cpu.median().zip(image.cpu.median()).map(|(signed, image)| signed - image);
            chapter.goals.push(Goal::at_most("CPU of a signature".to_owned(), 1.0, "ms", cost));
        }
        chapter.tables.push((format!("{name}:"), table(requests.is_some(), &figures)));
    }
    Ok(chapter)
}

fn table(is_fleet: bool, figures: &[Figures; 3]) -> Table {
    let mut table = Table::new(["", "file", "image", "signed image"]);
    let mut row = |name: &str, of: fn(&Figures) -> &Samples| {
        let [file, image, signed] = figures.each_ref().map(|figures| of(figures).show());
        table.row([name.to_owned(), file, image, signed]);
    };
    if is_fleet {
        row("1,000 machines a second", |figures| &figures.rate);
        row("CPU ms a machine, with softirq", |figures| &figures.cpu);
        row("first byte, median, ms", |figures| &figures.first_median_ms);
        row("first byte, 99 %, ms", |figures| &figures.first_99_ms);
        row("median, ms", |figures| &figures.median_ms);
        row("slowest, ms", |figures| &figures.slowest_ms);
    } else {
        row("GiB a second", |figures| &figures.rate);
        row("CPU s per GiB, with softirq", |figures| &figures.cpu);
    }
    table
}

struct Bench {
    pair: Pair,
    files: TempDir,
    requests: Option<usize>,
}

impl Bench {
    fn new(initramfs: usize, requests: Option<usize>) -> anyhow::Result<Self> {
        let pair = Pair::new()?;
        pair.route_fleet()?;
        let files = lab::artifacts(Sizes { loader: 1, kernel: 1, initramfs })?;
        let stub = fs::read(uki::stub(Edition::Installed, Architecture::Amd64)?).context("the EFI stub")?;
        let write = |name: &Path, content: &[u8]| {
            fs::File::create(files.path().join(name)).and_then(|mut file| file.write_all(content))
        };
        write(Path::new(uki::stub_name(Architecture::Amd64)), &stub)?;
        // Nobody starts the kernel: any EFI application will do.
        write(Path::new(&lab::kernel()), &stub)?;
        Ok(Self { pair, files, requests })
    }

    fn measure(&self, what: What, key: &SigningKey) -> anyhow::Result<(HttpOutcome, Cpu)> {
        let spec = lab::spec(MACHINES).replace("{name: bench}", "{name: bench, annotations: {pxed.dev/boot: uki}}");
        let (key_file, certificate) = (key.key().display().to_string(), key.certificate().display().to_string());
        let signing = ["--datapath", "socket", "--secure-boot-key", &key_file, "--secure-boot-cert", &certificate];
        let options = if matches!(what, What::SignedImage) { &signing[..] } else { &signing[..2] };
        let pxed = Pxed::start(&self.pair.server, &spec, self.files.path(), options)?;
        cpu::settle(Duration::from_secs(2));
        let meter = Meter::start(&self.pair.server)?;
        let outcome = self.pair.client.enter(|| http::run(&self.load(what)))??;
        let used = meter.used()?;
        let reason = outcome.first_failure.as_deref().unwrap_or_default();
        let lines = || pxed.process.last_lines();
        ensure!(outcome.failures == 0, "{} requests failed: {reason}\n{}", outcome.failures, lines());
        Ok((outcome, used))
    }

    fn load(&self, what: What) -> HttpLoad {
        let target = |number| {
            let (mac, address) = lab::machine(number);
            let path = match what {
                What::File => format!("/assets/{}", lab::initramfs()),
                What::Image | What::SignedImage => format!("/boot/{mac}/talos.efi"),
            };
            Target { source: Some(address), path }
        };
        HttpLoad {
            server: SocketAddrV4::new(SERVER, PORT),
            connections: CLIENTS,
            targets: (0..MACHINES).map(target).collect(),
            requests: self.requests,
            requests_per_connection: 1,
            within: if self.requests.is_some() { PATIENCE } else { LOADING },
        }
    }
}

impl Figures {
    fn push(&mut self, is_fleet: bool, outcome: &HttpOutcome, cpu: Cpu) {
        if is_fleet {
            self.rate.push(outcome.requests_per_second() / 1e3);
            self.cpu.push(cpu.total() * 1e3 / outcome.requests as f64);
        } else {
            self.rate.push(outcome.gib_per_second());
            self.cpu.push(cpu.total() / outcome.gib());
        }
        self.first_median_ms.push(outcome.first_byte(0.5).as_secs_f64() * 1e3);
        self.first_99_ms.push(outcome.first_byte(0.99).as_secs_f64() * 1e3);
        self.median_ms.push(outcome.latency(0.5).as_secs_f64() * 1e3);
        self.slowest_ms.push(outcome.latency(1.0).as_secs_f64() * 1e3);
    }
}
