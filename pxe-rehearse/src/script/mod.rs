//! An interpreter of the part of iPXE's script language that boot scripts use. Does no I/O.
//!
//! It runs until it needs something, returns a [`Step`] that says so, and is resumed with the answer. Scripts come from
//! outside, so their lines, steps and nesting are bounded.

mod line;
pub(super) mod settings;
pub(super) mod url;

use std::{collections::VecDeque, time::Duration};

use line::{Operator, positional, split};
use settings::Settings;
use url::Url;

/// The next need of the interpreter, or the end of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Fetch this file. The text is only needed of scripts.
    Fetch { url: Url, what: Image },
    /// Wait.
    Sleep(Duration),
    /// Configure the network card by DHCP.
    Configure,
    /// Start the kernel with these arguments.
    Boot { arguments: String },
    /// Return to the firmware, which tries its next boot device.
    Exit,
    /// Boot from the disk.
    Disk,
    /// The script failed, or opened a shell.
    Failed(String),
}

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// A script, or a program that takes over from iPXE.
    Script,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// A file that is fetched to see if it can be.
    Other,
}

/// The answer to a step.
#[derive(Debug)]
pub(super) enum Answer {
    /// The script may begin, the wait is over, or the card is configured.
    Done,
    /// The file has arrived. Holds its first bytes, if they were needed.
    Fetched(Vec<u8>),
    /// The step failed for this reason.
    Failed(String),
}

/// The number of bytes of a script that are read.
pub(super) const MAX_SCRIPT: usize = 1024 * 1024;
const MAX_STEPS: usize = 10_000;
const MAX_NESTING: usize = 16;
const MAX_SCREEN: usize = 200;

#[derive(Debug)]
struct Frame {
    url: Url,
    lines: Vec<String>,
    next: usize,
    /// The rest of the current line: each command with the operator before it.
    rest: VecDeque<(Operator, Vec<String>)>,
    /// The result of the last command.
    status: Result<(), String>,
}

/// The result of a command: it is done, or needs something.
enum Ran {
    Status(Result<(), String>),
    Step(Step),
}

/// A running script.
#[derive(Debug)]
pub(super) struct Interpreter {
    settings: Settings,
    frames: Vec<Frame>,
    steps: usize,
    /// The file that was requested and not yet answered.
    fetching: Option<(Url, Image)>,
    /// The script that is being fetched takes the place of the one that asked for it.
    replaces: bool,
    boot_after_fetch: bool,
    kernel: Option<(String, String)>,
    items: Vec<String>,
    /// The lines that the script wrote on the console.
    screen: Vec<String>,
    /// The last line that is not empty.
    last_line: String,
    /// The last error, apart from tests that failed.
    last_error: String,
}

impl Interpreter {
    /// Creates an interpreter of the script at `url`.
    pub(super) fn new(settings: Settings, url: Url, text: &[u8]) -> Self {
        let mut interpreter = Self {
            settings,
            frames: Vec::new(),
            steps: 0,
            fetching: None,
            replaces: false,
            boot_after_fetch: false,
            kernel: None,
            items: Vec::new(),
            screen: Vec::new(),
            last_line: String::new(),
            last_error: String::new(),
        };
        interpreter.enter(url, text);
        interpreter
    }

    /// Returns `true` if the bytes are a script. iPXE checks nothing else.
    pub(super) fn is_script(text: &[u8]) -> bool {
        text.starts_with(b"#!ipxe") || text.starts_with(b"#!gpxe")
    }

    /// Returns the settings, to be updated after DHCP.
    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Takes out the lines that the script wrote since the last call.
    pub(super) fn take_screen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.screen)
    }

    fn enter(&mut self, url: Url, text: &[u8]) {
        let text =
            String::from_utf8_lossy(&text[..text.len().min(MAX_SCRIPT)]).replace("\\\r\n", " ").replace("\\\n", " ");
        let lines = text.lines().map(str::to_owned).collect();
        self.frames.push(Frame { url, lines, next: 0, rest: VecDeque::new(), status: Ok(()) });
    }

    /// Resumes the script with the answer to the last step.
    pub(super) fn resume(&mut self, answer: Answer) -> Step {
        let mut status = match (answer, self.fetching.take()) {
            (Answer::Failed(reason), _) => {
                self.last_error.clone_from(&reason);
                Err(reason)
            }
            (Answer::Fetched(body), Some((url, image))) => match self.take_image(url, image, &body) {
                Ran::Step(step) => return step,
                Ran::Status(status) => status,
            },
            _ => Ok(()),
        };
        loop {
            let Some(frame) = self.frames.last_mut() else { return self.end(status) };
            frame.status = status;
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Step::Failed(format!("the script does not end within {MAX_STEPS} commands"));
            }
            match self.next_command() {
                None => {
                    // The script has ended, or a line failed. The outer script continues with its status.
                    status = self.frames.pop().map_or(Ok(()), |frame| frame.status);
                }
                Some(words) => match self.run(&words) {
                    Ran::Step(step) => return step,
                    Ran::Status(result) => status = result,
                },
            }
        }
    }

    fn end(&mut self, status: Result<(), String>) -> Step {
        match status {
            Err(reason) => Step::Failed(reason),
            Ok(()) => Step::Exit,
        }
    }

    /// Returns the next command, expanded, or `None` if the script has ended.
    fn next_command(&mut self) -> Option<Vec<String>> {
        let frame = self.frames.last_mut()?;
        loop {
            while let Some((operator, words)) = frame.rest.pop_front() {
                let wanted = match operator {
                    Operator::Always => true,
                    Operator::And => frame.status.is_ok(),
                    Operator::Or => frame.status.is_err(),
                };
                if wanted {
                    return Some(words.iter().map(|word| self.settings.expand(word)).collect());
                }
            }
            // iPXE leaves a script at the first line that fails.
            if frame.status.is_err() {
                return None;
            }
            let line = frame.lines.get(frame.next)?;
            frame.next += 1;
            frame.rest = split(line);
        }
    }

    /// Takes in a file that has arrived.
    fn take_image(&mut self, url: Url, image: Image, body: &[u8]) -> Ran {
        match image {
            Image::Initramfs | Image::Other => Ran::Status(Ok(())),
            Image::Kernel if self.boot_after_fetch => Ran::Step(self.boot()),
            Image::Kernel => Ran::Status(Ok(())),
            Image::Script if Self::is_script(body) => {
                if self.replaces {
                    self.frames.pop();
                }
                if self.frames.len() >= MAX_NESTING {
                    return Ran::Step(Step::Failed(format!("scripts chain each other more than {MAX_NESTING} deep")));
                }
                self.enter(url, body);
                Ran::Status(Ok(()))
            }
            // A program takes over.
            Image::Script => {
                self.kernel = Some((url.file_name().to_owned(), String::new()));
                Ran::Step(self.boot())
            }
        }
    }

    fn boot(&mut self) -> Step {
        match self.kernel.take() {
            Some((_, arguments)) => Step::Boot { arguments },
            None => Step::Failed("boot without a kernel".to_owned()),
        }
    }

    fn fetch(&mut self, reference: Option<&String>, image: Image) -> Ran {
        let Some(reference) = reference else { return Ran::Status(Err("a command lacks its URL".to_owned())) };
        let Some(frame) = self.frames.last() else { return Ran::Status(Ok(())) };
        match frame.url.resolve(reference) {
            Err(reason) => Ran::Status(Err(reason)),
            Ok(url) => {
                self.fetching = Some((url.clone(), image));
                Ran::Step(Step::Fetch { url, what: image })
            }
        }
    }

    fn run(&mut self, words: &[String]) -> Ran {
        let Some((name, arguments)) = words.split_first() else { return Ran::Status(Ok(())) };
        let ok = Ran::Status(Ok(()));
        let check = |holds: bool, reason: String| Ran::Status(if holds { Ok(()) } else { Err(reason) });
        match name.as_str() {
            "echo" => {
                let line = positional(arguments).join(" ");
                if !line.is_empty() {
                    self.last_line.clone_from(&line);
                }
                if self.screen.len() < MAX_SCREEN {
                    self.screen.push(line);
                }
                ok
            }
            "set" => {
                if let Some((setting, value)) = arguments.split_first() {
                    self.settings.set(setting, &value.join(" "));
                }
                ok
            }
            "clear" => {
                arguments.iter().for_each(|setting| self.settings.set(setting, ""));
                ok
            }
            "inc" => {
                let [setting, ..] = arguments else { return Ran::Status(Err("inc lacks its setting".to_owned())) };
                let step: i64 = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1);
                let value = self.settings.get(setting).parse::<i64>().unwrap_or(0).wrapping_add(step);
                self.settings.set(setting, &value.to_string());
                ok
            }
            "isset" => check(arguments.first().is_some_and(|value| !value.is_empty()), "isset: not set".to_owned()),
            "iseq" => check(arguments.first() == arguments.get(1), format!("iseq: {}", arguments.join(" is not "))),
            "goto" => Ran::Status(self.goto(arguments.first().map_or("", String::as_str))),
            "kernel" | "imgselect" | "imgload" => {
                let mut arguments = positional(arguments).into_iter();
                let reference = arguments.next();
                self.kernel = reference.clone().map(|reference| (reference, arguments.collect::<Vec<_>>().join(" ")));
                self.fetch(reference.as_ref(), Image::Kernel)
            }
            "imgfetch" => self.fetch(positional(arguments).first(), Image::Other),
            "initrd" | "module" => self.fetch(positional(arguments).first(), Image::Initramfs),
            "chain" => self.chain(arguments),
            "imgargs" => {
                if let (Some((_, kernel)), [_, rest @ ..]) = (&mut self.kernel, arguments) {
                    *kernel = rest.join(" ");
                }
                ok
            }
            "imgfree" => {
                // With names, it frees those images alone.
                let is_meant = |(reference, _): &mut (String, String)| {
                    arguments.is_empty() || arguments.iter().any(|name| reference.ends_with(name.as_str()))
                };
                self.kernel.take_if(is_meant);
                ok
            }
            "boot" | "imgexec" => match positional(arguments).first() {
                Some(reference) if self.kernel.is_none() => {
                    self.kernel = Some((reference.clone(), String::new()));
                    self.boot_after_fetch = true;
                    self.fetch(Some(reference), Image::Kernel)
                }
                _ => Ran::Step(self.boot()),
            },
            "sleep" => {
                let seconds = positional(arguments).first().and_then(|text| text.parse().ok()).unwrap_or(0);
                if seconds > 0 {
                    // A script that asks again for ever is not stuck.
                    self.steps = 0;
                }
                Ran::Step(Step::Sleep(Duration::from_secs(seconds)))
            }
            "dhcp" | "ifconf" | "autoboot" => Ran::Step(Step::Configure),
            "exit" => match arguments.first().map(String::as_str) {
                None | Some("0") => {
                    // This leaves the current script. If that is the outermost, it leaves iPXE.
                    self.frames.pop();
                    if self.frames.is_empty() { Ran::Step(Step::Exit) } else { ok }
                }
                Some(number) => {
                    self.frames.pop();
                    let reason = format!("the script says exit {number}");
                    if self.frames.is_empty() { Ran::Step(Step::Exit) } else { Ran::Status(Err(reason)) }
                }
            },
            "sanboot" => Ran::Step(Step::Disk),
            "shell" | "reboot" | "poweroff" => Ran::Step(Step::Failed(self.surrender(name))),
            // Simulated x86 processors have every feature that is tested for, such as long mode.
            "cpuid" => check(self.settings.get("buildarch") != "arm64", "cpuid: not an x86 processor".to_owned()),
            "menu" => {
                self.items.clear();
                ok
            }
            "item" => {
                self.items.extend(positional(arguments).into_iter().next());
                ok
            }
            "choose" => self.choose(arguments),
            "prompt" => Ran::Status(Err("nobody pressed a key".to_owned())),
            "ifopen" | "ifclose" | "ifstat" | "route" | "imgstat" | "config" | "show" | "console" | "colour"
            | "cpair" | "sync" | "ntp" | "imgtrust" | "imgverify" | "params" | "param" | "time" => ok,
            other => Ran::Status(Err(format!("{other}: a command that simulated machines do not know"))),
        }
    }

    /// Returns why the script gave up with this command.
    fn surrender(&self, command: &str) -> String {
        let mut reason = format!("the script says {command}");
        for (name, text) in [("last error", &self.last_error), ("last on the screen", &self.last_line)] {
            if !text.is_empty() {
                reason.push_str(&format!("; {name}: {text}"));
            }
        }
        reason
    }

    fn chain(&mut self, arguments: &[String]) -> Ran {
        // With `--replace`, the called script takes the caller's place.
        self.replaces = arguments.iter().any(|word| word == "--replace" || word == "-r");
        self.fetch(positional(arguments).first(), Image::Script)
    }

    fn choose(&mut self, arguments: &[String]) -> Ran {
        let default =
            arguments.windows(2).find(|pair| pair[0] == "--default" || pair[0] == "-d").map(|pair| pair[1].clone());
        let setting = arguments.last().cloned().unwrap_or_default();
        match default.or_else(|| self.items.first().cloned()) {
            Some(item) => {
                self.settings.set(&setting, &item);
                Ran::Status(Ok(()))
            }
            None => Ran::Status(Err("choose: an empty menu".to_owned())),
        }
    }

    fn goto(&mut self, label: &str) -> Result<(), String> {
        let frame = self.frames.last_mut().ok_or_else(String::new)?;
        let is_label = |line: &String| line.trim().strip_prefix(':').is_some_and(|name| name.trim() == label);
        let line = frame.lines.iter().position(is_label).ok_or_else(|| format!("goto {label}: no such label"))?;
        frame.next = line + 1;
        frame.rest.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
