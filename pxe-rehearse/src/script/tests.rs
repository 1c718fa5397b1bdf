use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    let mut settings = Settings::default();
    for (name, value) in [("mac", "52:54:00:aa:bb:cc"), ("uuid", "u-u"), ("buildarch", "x86_64"), ("platform", "efi")] {
        settings.set(name, value);
    }
    settings
}

/// Runs a script with these files, and returns what it asked for and how it ended.
fn run(text: &str, world: &[(&str, &str)]) -> Vec<String> {
    let url = Url::parse("http://10.0.0.1:8000/boot.ipxe").unwrap();
    let mut interpreter = Interpreter::new(settings(), url, text.as_bytes());
    let mut trace = Vec::new();
    let mut answer = Answer::Done;
    for _ in 0..100 {
        let step = interpreter.resume(answer);
        trace.extend(interpreter.take_screen().into_iter().map(|line| format!("screen {line}")));
        answer = match step {
            Step::Fetch { url, what } => {
                trace.push(format!("{what:?} {}", url.path));
                match world.iter().find(|(path, _)| *path == url.path) {
                    Some((_, content)) => Answer::Fetched(content.as_bytes().to_vec()),
                    None => Answer::Failed("404".to_owned()),
                }
            }
            Step::Sleep(duration) => {
                trace.push(format!("sleep {}", duration.as_secs()));
                Answer::Done
            }
            Step::Configure => {
                trace.push("dhcp".to_owned());
                Answer::Done
            }
            Step::Boot { arguments } => {
                trace.push(format!("boot {arguments}"));
                return trace;
            }
            end => {
                trace.push(format!("{end:?}"));
                return trace;
            }
        };
    }
    panic!("no end: {trace:?}")
}

const FILES: &[(&str, &str)] = &[("/k", "kernel"), ("/i", "initrd"), ("/empty.ipxe", "#!ipxe\n"), ("/p.efi", "MZ")];

#[test]
fn scripts_run_as_in_ipxe() {
    for (case, script, expected) in [
        (
            "kernel and initramfs",
            "#!ipxe\nkernel /k a=${mac} b\ninitrd /i\nboot",
            &["Kernel /k", "Initramfs /i", "boot a=52:54:00:aa:bb:cc b"][..],
        ),
        ("options before the URL", "kernel --name linux -t 500 /k a --b\nboot", &["Kernel /k", "boot a --b"]),
        ("a missing kernel ends the script", "kernel /none\necho never", &["Kernel /none", "Failed(\"404\")"]),
        ("or", "kernel /none || kernel /k x ||\nboot", &["Kernel /none", "Kernel /k", "boot x"]),
        ("or nothing", "chain /none ||\necho on", &["Script /none", "screen on", "Exit"]),
        ("or is not run after success", "echo a || echo b", &["screen a", "Exit"]),
        ("and", "iseq ${platform} efi && echo yes || echo no", &["screen yes", "Exit"]),
        ("and, else", "iseq ${platform} pcbios && echo yes || echo no", &["screen no", "Exit"]),
        ("a failed test ends the script", "isset ${nothing}\necho never", &["Failed(\"isset: not set\")"]),
        ("labels", "goto b\n:a\necho a\nexit\n:b\necho b\ngoto a", &["screen b", "screen a", "Exit"]),
        (
            "labels in branches",
            "iseq ${buildarch} arm64 && goto arm ||\necho x64\nexit\n:arm\necho arm",
            &["screen x64", "Exit"],
        ),
        ("a label that is not there", "goto nowhere", &["Failed(\"goto nowhere: no such label\")"]),
        ("settings", "set base-url /k\nset args a b\nkernel ${base-url} ${args}\nboot", &["Kernel /k", "boot a b"]),
        ("clear", "set x 1\nclear x\nisset ${x} || echo gone", &["screen gone", "Exit"]),
        ("counting", "set i:int32 0\n:again\ninc i\niseq ${i} 3 || goto again\necho ${i}", &["screen 3", "Exit"]),
        ("continued lines", "kernel /k a \\\n  b\nboot", &["Kernel /k", "boot a b"]),
        ("comments", "# kernel /none\n  # neither\necho on", &["screen on", "Exit"]),
        (
            "Matchbox's chain",
            "chain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&arch=${buildarch:uristring}",
            &["Script /ipxe?uuid=u-u&mac=52-54-00-aa-bb-cc&arch=x86_64", "Failed(\"404\")"],
        ),
        ("a called script returns", "chain empty.ipxe\necho back", &["Script /empty.ipxe", "screen back", "Exit"]),
        (
            "a called script that replaces does not",
            "chain --replace empty.ipxe\necho back",
            &["Script /empty.ipxe", "Exit"],
        ),
        ("a program takes over", "chain /p.efi", &["Script /p.efi", "boot "]),
        (
            "retries",
            "set n 0\n:retry\ninc n\nkernel /none && goto ok || iseq ${n} 3 && goto out || sleep 2\ngoto retry\n:out\nshell",
            &[
                "Kernel /none",
                "sleep 2",
                "Kernel /none",
                "sleep 2",
                "Kernel /none",
                "Failed(\"the script says shell; last error: 404\")",
            ],
        ),
        (
            "a file that is freed by name",
            "kernel /k a\nimgfetch --name alive /i\nimgfree alive\nimgargs k b\nboot",
            &["Kernel /k", "Other /i", "boot b"],
        ),
        (
            "a kernel that is freed by name",
            "kernel /k a\nimgfree k\nboot",
            &["Kernel /k", "Failed(\"boot without a kernel\")"],
        ),
        (
            "the interface's number",
            "iseq ${net${n}/mac} ${netX/mac} || goto x\necho same\n:x",
            &["screen same", "Exit"],
        ),
        ("dhcp", "ifopen net0\ndhcp net0 || shell\nkernel /k\nboot", &["dhcp", "Kernel /k", "boot "]),
        ("exit", "exit 0\necho never", &["Exit"]),
        ("sanboot", "sanboot --no-describe --drive 0x80", &["Disk"]),
        ("boot without kernel", "boot", &["Failed(\"boot without a kernel\")"]),
        ("boot with a URL", "boot /k", &["Kernel /k", "boot "]),
        (
            "a menu takes its default",
            "menu x\nitem a First\nitem b Second\nchoose --default b --timeout 5000 target && echo ${target}",
            &["screen b", "Exit"],
        ),
        (
            "a surrender says why",
            "echo so it is\necho\nprompt x || reboot",
            &["screen so it is", "screen ", "Failed(\"the script says reboot; last on the screen: so it is\")"],
        ),
        ("cpuid", "cpuid --ext 29 && echo 64 bits ||", &["screen 64 bits", "Exit"]),
        ("an unknown command", "frobnicate || echo no", &["screen no", "Exit"]),
    ] {
        assert_eq!(run(script, FILES), expected, "{case}");
    }
}

/// A machine may wait for its files for an hour, by a script that takes its own place.
#[test]
fn waiting_script_is_followed_until_another_one_comes() {
    let waiting =
        "#!ipxe\necho 43 percent\n:wait\nsleep 5 || goto shell\nchain --replace /boot.ipxe || goto wait\n:shell\nshell";
    let url = Url::parse("http://10.0.0.1:8000/boot.ipxe").unwrap();
    let mut interpreter = Interpreter::new(settings(), url, waiting.as_bytes());
    let mut step = interpreter.resume(Answer::Done);
    for round in 0..5_000 {
        assert_eq!(step, Step::Sleep(Duration::from_secs(5)));
        assert!(interpreter.take_screen().len() <= 1);
        step = interpreter.resume(Answer::Done);
        assert!(matches!(&step, Step::Fetch { what: Image::Script, .. }), "{step:?}");
        // The server may be restarted meanwhile.
        let lost = || Answer::Failed("refused".to_owned());
        step = interpreter.resume(if round % 10 == 0 { lost() } else { Answer::Fetched(waiting.into()) });
    }
    interpreter.resume(Answer::Done);
    let step = interpreter.resume(Answer::Fetched(b"#!ipxe\nkernel /k\nboot".to_vec()));
    assert!(matches!(step, Step::Fetch { what: Image::Kernel, .. }));
    assert_eq!(interpreter.resume(Answer::Fetched(Vec::new())), Step::Boot { arguments: String::new() });
}

#[test]
fn script_that_does_not_end_fails() {
    assert!(run(":a\ngoto a", &[]).last().unwrap().contains("does not end"));
    let itself = "#!ipxe\nchain /boot.ipxe";
    assert!(run(itself, &[("/boot.ipxe", itself)]).last().unwrap().contains("deep"));
}

proptest! {
    #[test]
    fn arbitrary_script_does_not_panic(text in "(\\PC|\n)*") {
        let url = Url::parse("http://10.0.0.1/x").unwrap();
        let mut interpreter = Interpreter::new(settings(), url, text.as_bytes());
        for _ in 0..50 {
            interpreter.resume(Answer::Failed(String::new()));
        }
    }

    #[test]
    fn arbitrary_words_do_not_panic(words in proptest::collection::vec(proptest::sample::select(vec![
        "kernel", "initrd", "boot", "chain", "goto", "a", ":a", "||", "&&", "\n", "set", "${x}", "inc", "choose", "item",
        "--default", "exit", "1", "imgargs", "sleep", "iseq", "isset", "--replace", "/k",
    ]), 0..60)) {
        let url = Url::parse("http://10.0.0.1/x").unwrap();
        let mut interpreter = Interpreter::new(settings(), url, words.join(" ").as_bytes());
        for turn in 0..50 {
            interpreter.resume(if turn % 2 == 0 { Answer::Fetched(b"#!ipxe\ngoto a".to_vec()) } else { Answer::Failed(String::new()) });
        }
    }
}
