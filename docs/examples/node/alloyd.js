// A complete client of alloyd's protocol (docs/protocol.md): requests with replies, and events of which none is missed.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Dealer, Subscriber } from "zeromq";

const PROTOCOL = "1.0";
const MARK = "<alloyd>";
const ANSWER = 5000; // ms that a request waits before it is asked again
const SILENCE = 3000; // ms without a heartbeat (there is one a second) after which the daemon is looked for
const PAGE = 1000;
const ENDED = new Set(["done", "failed", "cancelled"]);

/** What the daemon answered instead of a value: docs/errors.md lists the codes. */
export class AlloydError extends Error {
  constructor({ code = "E_ALLOYD", message = "", hint = "", exit_status = 1, retryable = false, facts = {}, problems }) {
    super(message);
    Object.assign(this, { code, hint, exitStatus: exit_status, retryable, facts });
    this.problems = (problems ?? []).map((each) => new AlloydError(each));
  }
}

const unreachable = (message) =>
  new AlloydError({ code: "E_UNREACHABLE", message, hint: "Start one with 'alloyd'.", exit_status: 9, retryable: true });

/** The home of the daemon of this user, as every client finds it. */
export function findHome(environ = process.env) {
  const state = environ.XDG_STATE_HOME?.startsWith("/") ? environ.XDG_STATE_HOME : join(homedir(), ".local", "state");
  return environ.ALLOYD_HOME || join(state, "alloyd");
}

/** A profile of this user, as `alloy profile add` wrote it, with the keys that it names: for `new Client({ remote })`. */
export async function readProfile(name, environ = process.env) {
  const config = environ.XDG_CONFIG_HOME?.startsWith("/") ? environ.XDG_CONFIG_HOME : join(homedir(), ".config");
  try {
    const file = await readFile(join(config, "alloyd", "profiles", `${basename(name)}.json`), "utf8");
    const { requests, events, server_key: serverKey, key } = JSON.parse(file);
    const pair = await readFile(key, "utf8"); // ZeroMQ's own format
    const [publicKey, secretKey] = ["public", "secret"].map((kind) => pair.match(`${kind}-key = "([^"]{40})"`)[1]);
    return { requests, events, serverKey, publicKey, secretKey };
  } catch (wrong) {
    const hint = "'alloy profile add' makes one.";
    throw new AlloydError({ code: "E_USAGE", message: `no profile '${name}': ${wrong.message}`, hint, exit_status: 2 });
  }
}

/** Where the daemon of a home listens. The file outlives a killed daemon, so its process is looked at, too. */
async function findConnection(home) {
  try {
    const connection = JSON.parse(await readFile(join(home, "connection.json"), "utf8"));
    process.kill(connection.pid, 0);
    return connection;
  } catch {
    throw unreachable(`no daemon runs for ${home}`);
  }
}

export class Client {
  /**
   * @param home the daemon's home on this machine
   * @param remote in its place `{requests, events, serverKey, publicKey, secretKey}`: tcp endpoints and CURVE keys (Z85),
   *   as `readProfile` gives them
   */
  constructor({ home = findHome(), remote } = {}) {
    Object.assign(this, { home, remote, session: randomUUID(), turn: Promise.resolve() });
  }

  close() {
    this.dealer?.close();
    this.dealer = undefined;
  }

  async connection() {
    const found = this.remote ?? (await findConnection(this.home));
    const [major] = (found.protocol ?? PROTOCOL).split(".");
    if (major === PROTOCOL.split(".")[0]) return found;
    throw new AlloydError({ code: "E_VERSION", message: `the daemon speaks protocol ${found.protocol}`, exit_status: 9 });
  }

  /** A socket's options: it never keeps the program from ending, and over tcp everything is encrypted. */
  options(more) {
    const { serverKey, publicKey, secretKey } = this.remote ?? {};
    const curve = { curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey };
    return { linger: 0, ...(serverKey ? curve : {}), ...more };
  }

  /** Ask for one thing; requests of one client go one after another. */
  request(kind, content = {}) {
    const reply = this.turn.then(() => this.ask(kind, content));
    this.turn = reply.catch(() => {});
    return reply;
  }

  async ask(kind, content) {
    const header = { id: randomUUID(), kind, session: this.session, at: new Date().toISOString(), protocol: PROTOCOL };
    const frames = [MARK, JSON.stringify(header), "{}", JSON.stringify(content)];
    // Every request may be asked twice: a submission carries a token, the others do no more the second time.
    for (let attempt = 0; attempt < 3; attempt++) {
      if (!this.dealer) {
        const { requests } = await this.connection();
        this.dealer = new Dealer(this.options({ receiveTimeout: ANSWER }));
        this.dealer.events.on("handshake:error:auth", () => this.refuse());
        this.dealer.connect(requests);
      }
      await this.dealer.send(frames);
      const reply = await this.answer(header.id);
      if (this.refused) throw this.refused;
      if (reply?.status === "ok") return reply.value;
      if (reply?.error.code === "E_RATE" && attempt < 2) await sleep(1000 * reply.error.facts.wait);
      else if (reply) throw new AlloydError(reply.error);
      else this.close();
    }
    throw unreachable(`the daemon has not answered '${kind}'`);
  }

  /** The daemon has looked at the key and does not know it; no answer will come. */
  refuse() {
    const hint = "On the daemon's machine: alloy keys authorize NAME KEY --role submit";
    const message = "the daemon does not let this key in";
    this.refused = new AlloydError({ code: "E_ACCESS", message, hint, exit_status: 9 });
    this.close();
  }

  /** The reply to a request, past late ones to earlier requests; undefined when none comes. */
  async answer(id) {
    try {
      for (;;) {
        const [, , parent, content] = await this.dealer.receive();
        const asked = JSON.parse(parent).id;
        if (asked === id || asked === undefined) return JSON.parse(content);
      }
    } catch (wrong) {
      if (wrong.code === "EAGAIN" || this.refused) return undefined;
      throw wrong;
    }
  }

  /** Add a job. Asked again with the same token it answers with the same job, so that nothing is done twice. */
  submit(spec, token = randomUUID()) {
    return this.request("submit", { spec, token });
  }

  job(job) {
    return this.request("job", { job });
  }

  /** All stored events of a job after number `since`, and progress ticks (`seq` 0), until the job has ended. */
  async *events(job, since = 0) {
    for (;;) {
      const bell = new Subscriber(this.options({ receiveTimeout: SILENCE }));
      try {
        // First subscribe, then ask: what is stored in between rings.
        bell.subscribe("welcome", "daemon.", `job.${job}.`);
        bell.connect((await this.connection()).events);
        for (let rung = true, heard = since; ; ) {
          if (rung) {
            const { state } = await this.job(job); // before its events: what ends after this is seen at the next ring
            rung = false;
            let page;
            do {
              page = await this.request("events", { since, job, limit: PAGE });
              for (const event of page) {
                since = event.seq;
                rung ||= ENDED.has(event.body.state);
                yield event;
              }
            } while (page.length === PAGE);
            if (ENDED.has(state)) return;
            continue;
          }
          const [topic, , header, , content] = await bell.receive();
          const kind = header ? JSON.parse(header).kind : `${topic}`;
          const said = content ? JSON.parse(content) : {};
          if (kind === "event" && said.seq === 0) yield said;
          else if (kind === "event") rung = said.seq > since;
          else if (kind === "heartbeat") rung = said.last > Math.max(since, heard);
          else rung = kind === "welcome";
          if (kind === "heartbeat") heard = Math.max(heard, said.last);
        }
      } catch (wrong) {
        if (wrong.code !== "EAGAIN" && wrong.code !== "E_UNREACHABLE") throw wrong;
        await this.look(); // silence: find the daemon, or the one after it, and go on from the same number
      } finally {
        bell.close();
      }
    }
  }

  /** Wait until a daemon answers; E_UNREACHABLE after ten seconds without one. */
  async look() {
    this.close();
    for (const begun = Date.now(); ; await sleep(200)) {
      try {
        return await this.request("hello");
      } catch (wrong) {
        if (wrong.code !== "E_UNREACHABLE" || Date.now() - begun > 10_000) throw wrong;
      }
    }
  }
}
