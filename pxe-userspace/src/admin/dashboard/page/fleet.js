// The fleet as pxed has told it, and what follows from it: who is stuck, who matches, in which order.

/** The steps of a boot, in its order, and the two ends beside it. */
export const STEPS = ["never-seen", "asking", "offered", "addressed", "loader", "ipxe", "script", "kernel", "initramfs", "running", "up"];
export const BESIDE = ["disk", "failed", "stuck"];
/** The looks of a machine that is done: an operating system runs on it, or it was sent to its disk. */
export const AT_WORK = ["running", "up", "disk"];
/** The looks of a machine: those that need a person come first. */
export const LOOKS = ["failed", "stuck", ...STEPS, "disk"];

export const STEP_NAMES = {
  "never-seen": "Never seen",
  asking: "Asking",
  offered: "Offered",
  addressed: "Addressed",
  loader: "Loader",
  ipxe: "iPXE",
  script: "Script",
  kernel: "Kernel",
  initramfs: "Initramfs",
  running: "Running",
  up: "Up",
  disk: "On disk",
  failed: "Failed",
  stuck: "Stuck",
};

export class Fleet {
  stages = [];
  machines = [];
  byMac = new Map();
  expected = 0;
  version = "";
  changes = "never";
  isComplete = false;
  /** What pxed's clock is ahead of this one's. */
  #skew = 0;

  begin({ version, now, machines, changes, stages }) {
    Object.assign(this, { version, changes, stages, expected: machines, machines: [], byMac: new Map(), isComplete: false });
    this.#skew = now - Date.now();
    this.isComplete = machines === 0;
  }

  add(rows) {
    for (const [[macs, address, host, cluster, role, architecture, version], state] of rows) {
      const machine = {
        index: this.machines.length,
        mac: macs[0], macs, address, host, cluster, role, architecture, version,
        text: [...macs, address, host ?? "", cluster].join(" ").toLowerCase(),
      };
      this.#apply(machine, state);
      this.machines.push(machine);
      for (const mac of macs) this.byMac.set(mac, machine);
    }
    this.isComplete = this.machines.length >= this.expected;
  }

  /** Takes over what another one has read. */
  adopt(other) {
    const { version, changes, stages, expected, machines, byMac, isComplete } = other;
    Object.assign(this, { version, changes, stages, expected, machines, byMac, isComplete });
    this.#skew = other.#skew;
  }

  change({ now, rows }) {
    this.#skew = now - Date.now();
    for (const [index, state] of rows) {
      const machine = this.machines[index];
      if (machine) this.#apply(machine, state);
    }
  }

  #apply(machine, [stage, since, boots, policy, from, error, stuckAt]) {
    const { name, step } = this.stages[stage] ?? { name: "unknown", step: "asking" };
    Object.assign(machine, { stage: name, step, since, boots, policy, from, error, stuckAt: stuckAt ?? Infinity });
  }

  /** Returns the time on pxed's clock. */
  now() {
    return Date.now() + this.#skew;
  }

  /** Returns how a machine looks: its step, or `stuck`. */
  lookOf(machine, now) {
    return now > machine.stuckAt ? "stuck" : machine.step;
  }

  /** Returns the machines that a view's filters let through. */
  matching(view, now) {
    const words = normalise(view.q);
    const { clusters, stages } = view;
    return this.machines.filter((machine) =>
      (clusters.length === 0 || clusters.includes(machine.cluster)) &&
      (stages.length === 0 || stages.includes(machine.stage) || stages.includes(this.lookOf(machine, now)) || stages.includes(machine.step)) &&
      words.every((word) => machine.text.includes(word)));
  }

  /** Returns the number of machines by look, of these. */
  counts(machines, now) {
    const counts = Object.fromEntries(LOOKS.map((look) => [look, 0]));
    for (const machine of machines) counts[this.lookOf(machine, now)] += 1;
    return counts;
  }

  /** Sorts machines in place by a column; equal ones stay in the order of the spec. */
  sort(machines, column, isDescending, now) {
    const rank = (machine) => LOOKS.indexOf(this.lookOf(machine, now));
    const keys = {
      attention: (machine) => Math.min(rank(machine), 2),
      machine: (machine) => machine.host ?? machine.mac,
      mac: (machine) => machine.mac,
      address: (machine) => machine.address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0),
      cluster: (machine) => machine.cluster,
      role: (machine) => machine.role,
      stage: rank,
      since: (machine) => machine.since,
      boots: (machine) => machine.boots,
      from: (machine) => `${machine.from} ${machine.policy}`,
      error: (machine) => machine.error ?? "\uffff",
    };
    const key = keys[column] ?? keys.attention;
    const sign = isDescending ? -1 : 1;
    const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
    const keyed = machines.map((machine) => [key(machine), machine]);
    keyed.sort(([a, one], [b, other]) => sign * compare(a, b) || one.index - other.index);
    return keyed.map(([, machine]) => machine);
  }
}

/** Returns the words of a search. A MAC address may be written in any spelling. */
function normalise(text) {
  return text.toLowerCase().split(/\s+/).filter((word) => word !== "").map((word) => {
    const digits = word.replace(/[:.-]/g, "");
    const isMac = /^[0-9a-f]{12}$/.test(digits) || /^([0-9a-f]{2}-)+[0-9a-f]{0,2}$/.test(word);
    return isMac && !/^\d+(\.\d+){3}$/.test(word) ? digits.replace(/(..)(?=.)/g, "$1:") : word;
  });
}
