//! Whole boots of simulated machines from several nodes, over a network that loses frames, while a node dies.

use std::time::{Duration, UNIX_EPOCH};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::dhcp::{
    testing::{DISCOVER, REQUEST},
    wire::code,
};

/// A program that asks for an address.
struct Program {
    /// The milliseconds after which it asks again, before it gives up.
    waits: &'static [u64],
    /// The `secs` of each DISCOVER.
    secs: &'static [u16],
    /// Its transaction is new at each attempt, and it goes back to DISCOVER when a REQUEST is not answered.
    is_u_boot: bool,
    dress: fn(Message) -> Message,
}

const EDK2: Program = Program {
    waits: &[4_000, 8_000, 16_000, 32_000],
    secs: &[0, 4, 12, 28],
    is_u_boot: false,
    dress: |message| message.firmware("PXEClient:Arch:00007:UNDI:003000", 7),
};
const IPXE: Program = Program {
    waits: &[1_000, 2_000, 4_000, 8_000],
    secs: &[4, 10, 18, 28],
    is_u_boot: false,
    dress: |message| message.option(code::USER_CLASS, b"iPXE"),
};
const UDHCPC: Program =
    Program { waits: &[3_000, 3_000, 3_000, 20_000], secs: &[], is_u_boot: false, dress: |message| message };
const U_BOOT: Program = Program {
    waits: &[250, 500, 1_000, 2_000, 2_000, 2_000, 2_000],
    secs: &[],
    is_u_boot: true,
    dress: |message| message.option(code::VENDOR_CLASS, b"U-Boot.armv8"),
};

const UEFI: &[&Program] = &[&EDK2, &IPXE, &UDHCPC];
const BIOS: &[&Program] = &[&IPXE, &IPXE, &UDHCPC];
const BOARD: &[&Program] = &[&U_BOOT, &UDHCPC];

/// The network and its clock.
struct Network {
    fleet: Fleet,
    random: StdRng,
    /// The share of frames that are lost on each way, in percent.
    loss: u32,
    now: SystemTime,
    /// The number of questions of a boot after which a node dies, and the node.
    death: Option<(usize, usize)>,
    /// The question of a boot that no node receives.
    lost: Option<usize>,
    questions: usize,
    xid: u32,
}

/// The outcome of a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Boot {
    has_failed: bool,
    /// The questions that were asked again.
    retries: usize,
    /// The answers to questions that were asked for the first time, beyond the first answer.
    surplus: usize,
}

impl Network {
    fn new(nodes: usize, loss: u32, seed: u64) -> Self {
        Self {
            fleet: Fleet::new(nodes, Mode::Server),
            random: StdRng::seed_from_u64(seed),
            loss,
            now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            death: None,
            lost: None,
            questions: 0,
            xid: 0,
        }
    }

    fn arrives(&mut self) -> bool {
        self.random.random_range(0..100) >= self.loss
    }

    /// Sends a question to all nodes and returns the answers that arrive.
    fn broadcast(&mut self, machine: &Machine, bytes: &[u8]) -> Vec<Seen> {
        if let Some((after, node)) = self.death
            && self.questions == after
        {
            self.fleet.0[node].is_running = false;
        }
        let is_lost = self.lost == Some(self.questions);
        self.questions += 1;
        let mut answers = Vec::new();
        for node in 0..self.fleet.0.len() {
            if self.fleet.0[node].is_running
                && !is_lost
                && self.arrives()
                && let (_, Some(reply)) = self.fleet.ask(node, machine, bytes, &broadcast(), self.now)
                && self.arrives()
            {
                answers.push(reply);
            }
        }
        answers
    }

    /// Boots a machine with these programs, one after the other. All nodes run at its beginning, and no earlier boot counts any more.
    fn boot(&mut self, machine: &Machine, programs: &[&Program]) -> Boot {
        self.now += Duration::from_secs(1_000);
        self.questions = 0;
        self.fleet.0.iter_mut().for_each(|pxed| pxed.is_running = true);
        let mut boot = Boot::default();
        for program in programs {
            if !self.get_address(machine, program, &mut boot) {
                return Boot { has_failed: true, ..boot };
            }
            self.now += Duration::from_secs(5);
        }
        boot
    }

    fn get_address(&mut self, machine: &Machine, program: &Program, boot: &mut Boot) -> bool {
        let mut waits = program.waits.iter();
        self.xid += 1;
        // With EDK2 and iPXE each step has its own attempts, U-Boot counts all together.
        let mut offer = None;
        loop {
            let chosen = offer;
            let secs = program.secs.get(program.waits.len() - waits.len()).copied().unwrap_or_default();
            let mut question = match chosen {
                None => message(machine, DISCOVER, self.xid, secs),
                Some(server) => message(machine, REQUEST, self.xid, 0)
                    .address(code::REQUESTED_ADDRESS, machine.address)
                    .address(code::SERVER_ID, server),
            };
            question = (program.dress)(question);
            let answers = self.broadcast(machine, &question.bytes());
            let is_first = waits.len() == program.waits.len();
            if is_first && self.death.is_none() && self.loss == 0 {
                boot.surplus += answers.len().saturating_sub(1);
            }
            let server = |answer: &Seen| answer.address(code::SERVER_ID).expect("every answer names its server");
            match chosen {
                None => {
                    let pick = self.random.random_range(0..answers.len().max(1));
                    if let Some(answer) = answers.get(pick) {
                        offer = Some(server(answer));
                        if !program.is_u_boot {
                            waits = program.waits.iter();
                        }
                        self.now += Duration::from_millis(100);
                        continue;
                    }
                }
                // Clients ignore the answers of servers that they did not choose.
                Some(chosen) if answers.iter().any(|answer| server(answer) == chosen) => return true,
                Some(_) if program.is_u_boot => offer = None,
                Some(_) => {}
            }
            let Some(&wait) = waits.next().filter(|_| waits.len() > 0) else { return false };
            self.now += Duration::from_millis(wait);
            boot.retries += 1;
            if program.is_u_boot {
                self.xid += 1;
            }
        }
    }
}

#[test]
fn healthy_nodes_answer_each_first_question_once() {
    for nodes in 1..=5 {
        let mut network = Network::new(nodes, 0, 1);
        for number in 0..300 {
            for programs in [UEFI, BIOS, BOARD] {
                assert_eq!(network.boot(&machine_number(number), programs), Boot::default(), "{nodes} nodes, {number}");
            }
        }
    }
}

#[test]
fn node_that_dies_at_any_step_costs_one_retry_in_a_boot() {
    for nodes in 2..=4 {
        let mut network = Network::new(nodes, 0, 1);
        for dying in 0..nodes {
            for step in 0..6 {
                for (number, programs) in (0..30).zip([UEFI, BIOS, BOARD].into_iter().cycle()) {
                    network.death = Some((step, dying));
                    let machine = machine_number(number);
                    let Boot { has_failed, retries, .. } = network.boot(&machine, programs);
                    // U-Boot lets its REQUEST go and begins again, which is two questions.
                    let limit = if programs.len() == 2 { 2 } else { 1 };
                    assert!(
                        !has_failed && retries <= limit,
                        "{nodes} nodes, {dying} dies at {step}: {number}: {retries}"
                    );
                }
            }
        }
    }
}

/// With loss, a node that dies costs a machine one question. It must not cost more: the control is one node that never dies, and
/// does not receive that question.
#[test]
fn lost_frames_fail_no_machine_that_one_node_would_not_fail() {
    const MACHINES: u32 = 500;
    let failed = |nodes: usize, death: Option<usize>, lost: Option<usize>| {
        let mut network = Network::new(nodes, 20, 1);
        network.lost = lost;
        let outcomes = (0..MACHINES).map(|number| {
            network.death = death.map(|step| (step, number as usize % nodes));
            usize::from(network.boot(&machine_number(number), UEFI).has_failed)
        });
        outcomes.sum::<usize>()
    };
    let alone = failed(1, None, None);
    assert!(alone > 20, "the network loses enough for a comparison: {alone}");
    for nodes in [2, 3] {
        let healthy = failed(nodes, None, None);
        assert!(healthy < alone, "{nodes} nodes: {healthy}, {alone} alone");
        for step in [0, 1, 2] {
            let (with_death, control) = (failed(nodes, Some(step), None), failed(1, None, Some(step)));
            assert!(
                with_death < control + control / 10,
                "{nodes} nodes, one dies at {step}: {with_death}, {control} in the control"
            );
        }
    }
}
