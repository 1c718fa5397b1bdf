//! The image of a machine, from a server on loopback: machine n has the address 127.0.0.n.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::*;
use crate::{
    artifacts::Store,
    http::{Context, UkiImages, bind, serve},
    model::{
        architecture::Architecture,
        event::{BootEvent, EventSink},
        failure::{ASKED_FROM, CHANGED},
        images::{FileState as State, Images, Stubs},
        inventory::Inventory,
        loader::OwnLoaders,
        machine_path::MachinePath,
        policy::BootPolicy,
        progress::ProgressBoard,
        testing::machine,
    },
    uki::{
        digest::Hasher,
        pe::{Header, PeMachine},
        testing::{self, CERTIFICATE, KEY},
    },
};

mod shared;

const KERNEL: &str = "vmlinuz-v1.13.0-amd64";
const INITRAMFS: &str = "initramfs-v1.13.0-amd64.xz";
const STUB: &str = "linuxx64.efi.stub";
const FACTORY: &str = "secureboot-uki-v1.13.0-amd64.efi";
const IPXE: &[u8] = b"iPXE itself";
const BOTH: Stubs = Stubs { amd64: true, arm64: true };

/// Returns bytes that tell where they are.
fn random(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn kernel() -> Vec<u8> {
    let mut kernel = testing::stub();
    kernel.sections.push(testing::section(".data", &random(1_000_001)));
    kernel.write()
}

/// Returns an EFI application that is not systemd's stub.
fn other_program() -> Vec<u8> {
    let mut program = testing::stub();
    program.sections.retain(|section| section.name != ".sdmagic");
    program.write()
}

fn initramfs() -> Vec<u8> {
    random(3_000_017)
}

/// Returns machine `number`: 1 boots its image, 2 the Factory's, 3 and 4 by iPXE, 5 its image with an iPXE of its own.
fn of_fleet(number: u8) -> Arc<Machine> {
    let boot = match number {
        1 | 5 => BootMethod::Uki,
        2 => BootMethod::FactoryUki,
        _ => BootMethod::Ipxe,
    };
    let loaders = (number == 5).then(|| {
        let mut loaders = OwnLoaders::default();
        loaders.set(Some(LoaderFile::EfiX64), Some(LoaderFile::EfiX64.firmware_driver_build().into()));
        Arc::new(loaders)
    });
    let plain = machine(number, Architecture::Amd64, "v1.13.0", None);
    Arc::new(Machine { boot, loaders, kernel_args: "x=\"${uuid}  é\" y".into(), ..(*plain).clone() })
}

struct Lab {
    directory: tempfile::TempDir,
    context: Arc<Context>,
    address: SocketAddr,
    events: mpsc::Receiver<BootEvent>,
    _stop: oneshot::Sender<()>,
}

/// An answer as a client sees it.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn url(number: u8) -> String {
    format!("{}/talos.efi", MachinePath::plain(MacAddr([2, 0, 0, 0, 0, number])))
}

fn signer() -> Signer {
    Signer::from_pem(KEY, CERTIFICATE).unwrap()
}

impl Lab {
    fn start() -> Self {
        Self::start_with(5, BootPolicy::Auto)
    }

    fn start_with(machines: u8, policy: BootPolicy) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).unwrap();
        write(STUB, &testing::stub().write());
        write(KERNEL, &kernel());
        write(INITRAMFS, &initramfs());
        write(FACTORY, &testing::talos_uki(&kernel(), &initramfs()).write());
        write(LoaderFile::EfiX64.name(), IPXE);
        write(LoaderFile::EfiX64.firmware_driver_build(), b"snponly");
        let (events, receiver) = EventSink::channel(1024);
        let machines = (1..=machines).map(|number| Arc::new(Machine { policy, ..(*of_fleet(number)).clone() }));
        let images = Images::new(BTreeMap::new(), HashMap::default(), BOTH);
        let context = Arc::new(Context {
            inventory: Arc::new(ArcSwap::from_pointee(Inventory::new(machines.collect()))),
            catalog: Arc::default(),
            store: Arc::new(Store::without_stand_ins(directory.path().to_owned())),
            images: Arc::new(ArcSwap::from_pointee(images)),
            talos_configs: None,
            ukis: Arc::new(UkiImages::default()),
            events,
            policies: Arc::default(),
            metrics: Arc::default(),
            coverage: Default::default(),
            changes: Default::default(),
            places: Default::default(),
            visits: Default::default(),
            check_source: true,
            guard: None,
            http_port: 8000,
            progress: Arc::new(ProgressBoard::new(64)),
        });
        let listener = bind(Ipv4Addr::LOCALHOST, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, Arc::clone(&context), async {
            let _ = stopped.await;
        }));
        Self { directory, context, address, events: receiver, _stop }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn set_state(&self, files: &[(&str, State)]) {
        let files = files.iter().map(|(path, state)| (Arc::from(*path), state.clone().into())).collect();
        self.context.images.store(Arc::new(Images::new(files, HashMap::default(), BOTH)));
    }

    async fn connect(&self, number: u8, window: Option<u32>) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, number), 0).into()).unwrap();
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(self.address).await.unwrap()
    }

    /// Asks as machine `number`.
    async fn ask_from(&self, number: u8, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.connect(number, None).await;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        in_time(stream.read_to_end(&mut answer)).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: answer[end..].to_vec() }
    }

    async fn get(&self, number: u8, headers: &str) -> Answer {
        self.ask_from(number, "GET", &url(number), headers).await
    }

    async fn event(&mut self) -> EventKind {
        in_time(self.events.recv()).await.unwrap().kind
    }

    /// Returns the next events in short.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(match self.event().await {
                EventKind::Requested { artifact, .. } => format!("requested {artifact:?}"),
                EventKind::Done { artifact, bytes, .. } => format!("done {artifact:?} {bytes}"),
                EventKind::Failed { artifact, reason, .. } => format!("failed {artifact:?}: {reason}"),
                event => format!("{event:?}"),
            });
        }
        told
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("it does not come")
}

/// Returns the contents of a section, without the padding in the file.
fn section<'a>(image: &'a [u8], name: &str) -> &'a [u8] {
    let header = Header::read(image).unwrap();
    let section = header.sections.iter().find(|section| section.display_name() == name).unwrap();
    &image[section.raw_offset as usize..][..section.virtual_size as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_has_the_kernel_the_initramfs_and_the_arguments_of_its_machine() {
    let mut lab = Lab::start();
    let answer = lab.get(1, "").await;
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/efi")));
    assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.header("Last-Modified"), None, "the arguments may have changed since");
    assert!(section(&answer.body, ".linux") == kernel() && section(&answer.body, ".initrd") == initramfs());
    let arguments = talos::arguments(&of_fleet(1), Ipv4Addr::LOCALHOST, None);
    let line = section(&answer.body, ".cmdline");
    assert_eq!(&line[..arguments.len()], arguments.as_bytes());
    assert!(arguments.ends_with("x=\"${uuid}  é\" y") && line[arguments.len()..].iter().all(|&byte| byte == 0));
    let length = answer.body.len();
    assert_eq!(lab.told(2).await, ["requested Uki".to_owned(), format!("done Uki {length}")]);
    // In another spelling, and of another machine that boots the same files.
    let spelt = lab.ask_from(1, "GET", "/boot//02:00:00:00:00:01//talos.efi", "").await;
    assert!(spelt.body == answer.body && spelt.header("ETag") == answer.header("ETag"));
    let other = lab.get(5, "").await;
    assert!(other.body == answer.body, "the same arguments");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_has_the_headers_of_get_and_is_no_event() {
    for signer in [None, Some(signer())] {
        let mut lab = Lab::start();
        lab.context.ukis.set_signer(signer);
        let undated = |answer: &Answer| {
            let lines = answer.head.lines().filter(|line| !line.starts_with("Date: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let head = lab.ask_from(1, "HEAD", &url(1), "").await;
        let get = lab.get(1, "").await;
        assert!(head.body.is_empty() && undated(&head) == undated(&get), "{}", head.head);
        assert_eq!(lab.told(1).await, ["requested Uki"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_has_exactly_its_bytes() {
    for signer in [None, Some(signer())] {
        let lab = Lab::start();
        lab.context.ukis.set_signer(signer);
        let whole = lab.get(1, "").await;
        let (length, etag) = (whole.body.len(), whole.header("ETag").unwrap());
        let header = Header::read(&whole.body).unwrap();
        let mut edges = vec![0, 1, 4096, length - 4096, length - 1, length];
        for section in &header.sections {
            let (start, size) = (section.raw_offset as usize, section.virtual_size as usize);
            edges.extend([start, start + 1, start + size - 1, start + size, start + size + 1]);
        }
        for (index, &first) in edges.iter().enumerate() {
            let end = edges[(index * 7 + 3) % edges.len()].max(first + 1).min(length);
            if first >= end {
                continue;
            }
            let range = format!("Range: bytes={first}-{}\r\nIf-Match: {etag}\r\n", end - 1);
            let part = lab.get(1, &range).await;
            assert_eq!(part.status, 206, "{range}");
            assert_eq!(part.header("Content-Range"), Some(format!("bytes {first}-{}/{length}", end - 1).as_str()));
            assert!(part.body == whole.body[first..end], "{range}");
        }
        for (headers, status) in [
            (format!("Range: bytes={length}-\r\n"), 416),
            ("If-Match: \"other\"\r\n".to_owned(), 412),
            (format!("If-None-Match: {etag}\r\n"), 304),
            (format!("Range: bytes=5-\r\nIf-Range: {etag}\r\n"), 206),
            ("Range: bytes=5-\r\nIf-Range: \"other\"\r\n".to_owned(), 200),
        ] {
            assert_eq!(lab.get(1, &headers).await.status, status, "{headers}");
        }
    }
}

/// A machine whose connection breaks may ask another node of the same fleet, or the same one after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_is_the_same_on_every_node() {
    for sign in [false, true] {
        let labs = [Lab::start(), Lab::start()];
        let mut answers = Vec::new();
        for lab in &labs {
            lab.context.ukis.set_signer(sign.then(signer));
            answers.push(lab.get(1, "").await);
        }
        let [first, second] = &answers[..] else { panic!() };
        assert!(first.body == second.body && first.header("ETag") == second.header("ETag"));
        // Another file, another image.
        fs::write(labs[1].path(INITRAMFS), random(3_000_016)).unwrap();
        let changed = labs[1].get(1, "").await;
        assert!(changed.header("ETag") != first.header("ETag") && section(&changed.body, ".initrd").len() == 3_000_016);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_arguments_or_another_signature_are_another_image() {
    let lab = Lab::start();
    let tag = async || lab.get(1, "").await.header("ETag").unwrap().to_owned();
    let unsigned = tag().await;
    lab.context.ukis.set_signer(Some(signer()));
    let signed = tag().await;
    lab.context.ukis.set_signer(None);
    assert!(signed != unsigned && tag().await == unsigned);
    let more = Machine { kernel_args: "more".into(), ..(*of_fleet(1)).clone() };
    lab.context.inventory.store(Arc::new(Inventory::new(vec![Arc::new(more)])));
    assert_ne!(tag().await, unsigned);
    assert_eq!(lab.context.ukis.kept(), 2, "signed and unsigned, whatever the arguments");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signature_covers_the_image() {
    let lab = Lab::start();
    lab.context.ukis.set_signer(Some(signer()));
    let image = lab.get(1, "").await.body;
    let key = signer();
    let certificate_length = key.key().certificate_length() as usize;
    let end = image.len() - certificate_length;
    // The hash is that of a template which is made here once more, of the bytes that were sent.
    let (stub, kernel, initramfs) = (testing::stub().write(), kernel(), initramfs());
    let lengths = (kernel.len() as u64, initramfs.len() as u64);
    let template = crate::uki::layout::Template::from_stub(&stub, lengths.0, lengths.1, PeMachine::AMD64).unwrap();
    let template = template.with_certificate(certificate_length as u32).unwrap();
    let mut hasher = Hasher::new(&template);
    hasher.update(&image[..end - SECTION_LENGTH]);
    let command_line = image[end - SECTION_LENGTH..end].try_into().unwrap();
    let digest = hasher.finish().unwrap().digest(&command_line);
    assert!(key.key().sign(&digest).unwrap() == image[end..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_is_for_its_own_machine_that_boots_from_the_network() {
    let mut lab = Lab::start();
    for method in ["HEAD", "GET"] {
        let other = lab.ask_from(3, method, &url(1), "").await;
        assert_eq!(other.status, 403, "{method}");
        let says = |text: &str| other.text().contains(text);
        assert_eq!(says(ASKED_FROM) && says("may get the unified kernel image of"), method == "GET");
        // It is no event of the machine.
        assert_eq!(lab.told(0).await, [""; 0]);
    }
    for path in ["/boot/02-00-00-00-00-09/talos.efi", "/boot/02-00-00-00-00-01/other.efi", "/boot/x/talos.efi"] {
        let answer = lab.ask_from(1, "GET", path, "").await;
        assert!(answer.status == 404 && !answer.body.is_empty(), "{path}: shim hangs without a body");
    }
    assert_eq!(lab.ask_from(1, "DELETE", &url(1), "").await.status, 405);
    let mut held = Lab::start_with(1, BootPolicy::Hold);
    for method in ["HEAD", "GET"] {
        let answer = held.ask_from(1, method, &url(1), "").await;
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(held.told(1).await, ["SentToDisk"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_gets_ipxe_while_its_files_are_on_their_way() {
    let mut lab = Lab::start();
    let reason: Arc<str> = "why".into();
    let expected = [
        State::Verifying,
        State::Queued,
        State::Fetching { done: 1, total: None, rest: None },
        State::Failed { reason: Arc::clone(&reason), again: SystemTime::UNIX_EPOCH },
        State::Missing { reason: Arc::clone(&reason) },
        State::Refused { reason },
    ];
    for state in expected {
        lab.set_state(&[(KERNEL, State::Verified), (INITRAMFS, state.clone())]);
        let answer = lab.get(1, "").await;
        assert_eq!((answer.status, &*answer.body), (200, IPXE), "{state:?}");
        assert_eq!(answer.header("Content-Type"), Some("application/efi"));
        let done = format!("done Loader {}", IPXE.len());
        assert_eq!(lab.told(2).await, ["requested Loader".to_owned(), done], "{state:?}");
        assert_eq!(lab.get(5, "").await.body, b"snponly", "{state:?}");
        lab.told(2).await;
    }
    for state in [State::Verified, State::ByHand] {
        lab.set_state(&[(KERNEL, State::Verified), (INITRAMFS, state)]);
        assert!(lab.get(1, "").await.body.starts_with(b"MZ"));
    }
    // A machine that boots its previous version by iPXE, and one whose spec was changed to iPXE since it asked.
    let previous = HashMap::from_iter([(of_fleet(1).mac, machine(1, Architecture::Amd64, "v1.12.0", None))]);
    lab.context.images.store(Arc::new(Images::new(BTreeMap::new(), previous, BOTH)));
    for number in [1, 3] {
        assert_eq!(lab.get(number, "").await.body, IPXE, "machine {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_of_the_factory_is_sent_as_it_is() {
    let mut lab = Lab::start();
    lab.context.ukis.set_signer(Some(signer()));
    let file = testing::talos_uki(&kernel(), &initramfs()).write();
    let answer = lab.get(2, "").await;
    assert!(answer.body == file && answer.header("Content-Type") == Some("application/efi"));
    assert_eq!(lab.told(2).await, ["requested Uki".to_owned(), format!("done Uki {}", file.len())]);
    let part = lab.get(2, "Range: bytes=-10\r\n").await;
    assert_eq!((part.status, &*part.body), (206, &file[file.len() - 10..]));
    fs::remove_file(lab.path(FACTORY)).unwrap();
    let missing = lab.get(2, "").await;
    assert!(missing.status == 404 && missing.text().contains(FACTORY), "{}", missing.text());
}

/// A schematic's image is made of the Factory's, and so is any without a stub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_of_the_factory_is_taken_apart() {
    let lab = Lab::start();
    let without_stubs = Images::new(BTreeMap::new(), HashMap::default(), Stubs::default());
    lab.context.images.store(Arc::new(without_stubs));
    fs::rename(lab.path(FACTORY), lab.path("uki-v1.13.0-amd64.efi")).unwrap();
    let image = lab.get(1, "").await.body;
    assert!(section(&image, ".linux") == kernel() && section(&image, ".initrd") == initramfs());
    assert!(
        section(&image, ".cmdline").starts_with(talos::arguments(&of_fleet(1), Ipv4Addr::LOCALHOST, None).as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_that_cannot_be_made_says_why_and_what_to_do() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, u16, &[&str]); 9] = [
        (KERNEL, |path| fs::remove_file(path).unwrap(), 404, &["no such file", "artifacts directory"]),
        (INITRAMFS, |path| fs::remove_file(path).unwrap(), 404, &["no such file", "artifacts directory"]),
        (STUB, |path| fs::remove_file(path).unwrap(), 404, &["no such file", "systemd-boot-efi"]),
        (KERNEL, |path| fs::write(path, "<html>").unwrap(), 503, &["Replace the file"]),
        (KERNEL, |path| fs::write(path, "").unwrap(), 503, &["Replace the file"]),
        (INITRAMFS, |path| fs::write(path, "").unwrap(), 503, &["it is empty", "Replace the file"]),
        (INITRAMFS, |path| fs::File::create(path).unwrap().set_len(5 << 30).unwrap(), 503, &["4 GiB", "a smaller one"]),
        (STUB, |path| fs::write(path, other_program()).unwrap(), 503, &["systemd's EFI stub", "Replace the file"]),
        (STUB, |path| fs::write(path, vec![0; 5 << 20]).unwrap(), 503, &["no EFI stub"]),
    ];
    let mut lab = Lab::start();
    for (name, spoil, status, words) in cases {
        let whole = fs::read(lab.path(name)).unwrap();
        spoil(&lab.path(name));
        for method in ["HEAD", "GET"] {
            let answer = lab.ask_from(1, method, &url(1), "").await;
            assert_eq!(answer.status, status, "{name}");
            let told = lab.told(if method == "GET" { 2 } else { 1 }).await;
            let failed = format!("failed Uki: {NO_IMAGE}: {name}: ");
            assert!(told.last().unwrap().starts_with(&failed), "{told:?}");
            if method == "GET" {
                for text in [answer.text(), told[1].clone()] {
                    assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
                }
            }
        }
        fs::write(lab.path(name), whole).unwrap();
        assert_eq!(lab.get(1, "").await.status, 200, "{name} is whole again");
        lab.told(2).await;
    }
    let long = Machine { kernel_args: "x".repeat(2100).into(), ..(*of_fleet(1)).clone() };
    lab.context.inventory.store(Arc::new(Inventory::new(vec![Arc::new(long)])));
    let answer = lab.get(1, "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("bytes long") && answer.text().contains("test.yaml line 1"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_has_arrived_when_the_machine_has_all_parts_of_it() {
    let mut lab = Lab::start();
    lab.context.ukis.set_signer(Some(signer()));
    let whole = lab.ask_from(1, "HEAD", &url(1), "").await;
    let (length, etag) = (whole.header("Content-Length").unwrap(), whole.header("ETag").unwrap());
    let half = length.parse::<u64>().unwrap() / 2;
    // The connection breaks in the middle.
    let mut broken = lab.connect(1, Some(16 * 1024)).await;
    broken.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", url(1)).as_bytes()).await.unwrap();
    let mut begin = vec![0; half as usize + 1000];
    in_time(broken.read_exact(&mut begin)).await.unwrap();
    broken.set_zero_linger().unwrap();
    drop(broken);
    let told = lab.told(2).await;
    assert!(told[0] == "requested Uki" && told[1].starts_with("failed Uki: the connection broke"), "{told:?}");
    let rest = lab.get(1, &format!("Range: bytes={half}-\r\nIf-Match: {etag}\r\n")).await;
    assert_eq!(rest.status, 206);
    assert_eq!(lab.told(2).await, ["requested Uki".to_owned(), format!("done Uki {length}")]);
}

/// Kernel and initramfs are looked at until the machine has its image, whichever of them is being sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_of_a_file_that_is_overwritten_does_not_arrive() {
    for name in [KERNEL, INITRAMFS] {
        let mut lab = Lab::start();
        // Older than the check's grain.
        for file in [KERNEL, INITRAMFS] {
            let file = fs::File::options().write(true).open(lab.path(file)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
        fs::write(lab.path(INITRAMFS), random(32 << 20)).unwrap();
        let mut client = lab.connect(1, Some(16 * 1024)).await;
        client.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", url(1)).as_bytes()).await.unwrap();
        let mut begin = vec![0; 2_000_000];
        in_time(client.read_exact(&mut begin)).await.unwrap();
        let content = fs::read(lab.path(name)).unwrap();
        fs::write(lab.path(name), &content).unwrap();
        let mut rest = Vec::new();
        let ended = in_time(client.read_to_end(&mut rest)).await;
        let told = lab.told(2).await;
        assert_eq!(told, ["requested Uki".to_owned(), format!("failed Uki: {CHANGED}")], "{name}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_is_replaced_by_a_rename_belongs_to_the_next_image() {
    let lab = Lab::start();
    fs::write(lab.path(INITRAMFS), random(32 << 20)).unwrap();
    let length = lab.ask_from(1, "HEAD", &url(1), "").await.header("Content-Length").unwrap().parse::<usize>().unwrap();
    let mut client = lab.connect(1, Some(16 * 1024)).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", url(1));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 2_000_000];
    in_time(client.read_exact(&mut answer)).await.unwrap();
    fs::write(lab.path("new"), b"another").unwrap();
    fs::rename(lab.path("new"), lab.path(INITRAMFS)).unwrap();
    in_time(client.read_to_end(&mut answer)).await.unwrap();
    let image = &answer[answer.len() - length..];
    assert!(section(image, ".initrd") == random(32 << 20));
    assert_eq!(section(&lab.get(1, "").await.body, ".initrd"), b"another");
}
