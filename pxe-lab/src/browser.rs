//! Headless Chromium, driven over a pipe by its DevTools protocol.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{namespace::Namespace, requires};

/// The time limit for an answer of the browser on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The browser reads its commands from descriptor 3 and answers at 4.
const START: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--force-color-profile=srgb",
];

/// A browser with one page. It is ended when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    number: u64,
    problems: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser in a namespace.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without Chromium, or if it does not answer.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        requires::tools(&["chromium"])?;
        let profile = TempDir::new()?;
        let mut command = namespace.command("sh");
        command.args(["-c", START, "sh"]).args(ARGUMENTS);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().context("cannot start chromium")?;
        let input = child.stdin.take().context("no pipe to chromium")?;
        let output = child.stdout.take().context("no pipe from chromium")?;
        let (sender, messages) = channel();
        thread::spawn(move || read(output, &sender));
        let mut browser =
            Self { child, input, messages, session: String::new(), number: 0, problems: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?["targetId"].take();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}))?;
        browser.session = attached["sessionId"].as_str().context("no session")?.to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the protocol and returns its result.
    ///
    /// # Errors
    ///
    /// Fails with the browser's error, or if it does not answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> anyhow::Result<Value> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.input.write_all(&bytes).context("chromium has ended")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let mut answer =
                self.messages.recv_timeout(rest).with_context(|| format!("chromium: no answer to {method}"))?;
            if answer["id"] == self.number {
                ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
            self.note(&answer);
        }
    }

    /// Notes what goes wrong in the page. A resource that cannot be loaded is the test's own doing.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.problems.push(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded")
                if parameters["entry"]["level"] == "error" && parameters["entry"]["source"] != "network" =>
            {
                self.problems.push(parameters["entry"].to_string());
            }
            _ => {}
        }
    }

    /// Returns the exceptions, and the violations of the page's own policy, since the last call.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// Evaluates an expression in the page, waits for its promise and returns its value.
    ///
    /// # Errors
    ///
    /// Fails with the exception that it throws.
    pub fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let mut result = self.call("Runtime.evaluate", &parameters)?;
        ensure!(result.get("exceptionDetails").is_none(), "{expression}: {}", result["exceptionDetails"]);
        Ok(result["result"]["value"].take())
    }

    /// Waits until an expression is true, and looks at each frame of the page.
    ///
    /// # Errors
    ///
    /// Fails if it is not true in time.
    pub fn wait_for(&mut self, expression: &str, within: Duration) -> anyhow::Result<()> {
        let script = format!(
            "new Promise((resolve) => {{ const end = performance.now() + {}; const look = () => {{ let is = false; try {{ is = Boolean({expression}); }} catch {{}} \
             if (is || performance.now() > end) resolve(is); else setTimeout(look, 20); }}; look(); }})",
            within.as_millis()
        );
        let is_true = self.evaluate(&script)?;
        ensure!(is_true == true, "not within {within:?}: {expression}");
        Ok(())
    }

    /// Opens an address and waits until the page is loaded.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be loaded.
    pub fn open(&mut self, address: &str) -> anyhow::Result<()> {
        let result = self.call("Page.navigate", &json!({"url": address}))?;
        if let Some(error) = result["errorText"].as_str() {
            bail!("{address}: {error}");
        }
        self.wait_for("document.readyState === 'complete'", LIMIT)
    }

    /// Sets the size of the window.
    ///
    /// # Errors
    ///
    /// Fails if the browser does not answer.
    pub fn resize(&mut self, width: u32, height: u32) -> anyhow::Result<()> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics).map(drop)
    }

    /// Sets `prefers-color-scheme`, with reduced motion.
    ///
    /// # Errors
    ///
    /// Fails if the browser does not answer.
    pub fn prefer(&mut self, scheme: &str) -> anyhow::Result<()> {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features})).map(drop)
    }

    /// Presses and releases a key that is no character.
    ///
    /// # Errors
    ///
    /// Fails if the browser does not answer.
    pub fn press(&mut self, key: &str, code: u32) -> anyhow::Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if key == "Enter" && kind == "keyDown" {
                event["text"] = json!("\r");
            }
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Types text where the focus is.
    ///
    /// # Errors
    ///
    /// Fails if the browser does not answer.
    pub fn type_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.call("Input.insertText", &json!({"text": text})).map(drop)
    }

    /// Writes a screenshot of the window, which a person may look at.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be taken or written.
    pub fn screenshot(&mut self, file: &Path) -> anyhow::Result<()> {
        let taken = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = taken["data"].as_str().context("no picture")?;
        fs::write(file, base64(data)?).with_context(|| file.display().to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may have ended already.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Reads the browser's messages, each of which ends with a NUL, until it ends.
fn read(output: ChildStdout, sender: &Sender<Value>) {
    let mut output = BufReader::new(output);
    let mut message = Vec::new();
    while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
        message.pop();
        let Ok(value) = serde_json::from_slice(&message) else { return };
        message.clear();
        if sender.send(value).is_err() {
            return;
        }
    }
}

/// Decodes base64 with padding.
fn base64(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("this is not base64"),
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, expected) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/8=", &[0xfb, 0xff])]
        {
            assert_eq!(base64(text).unwrap(), expected);
        }
        assert!(base64("Zm9v!").is_err());
    }
}
