// Merges as a recipe says and tells what happens: node merge.js RECIPE OUT [--connect PROFILE]

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { AlloydError, Client, readProfile } from "./alloyd.js";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { connect: { type: "string" } } });
const [recipe, out] = positionals;
if (!recipe || !out) {
  console.error("usage: node merge.js RECIPE OUT [--connect PROFILE]");
  process.exit(2);
}

let client;
try {
  const remote = values.connect && (await readProfile(values.connect));
  client = new Client({ remote });
  // Paths are those of the daemon's machine; over there relative ones start in the first folder that is open.
  const paths = remote ? { base_dir: "", out } : { base_dir: process.cwd(), out: resolve(out) };
  const spec = { kind: "merge", recipe: await readFile(recipe, "utf8"), ...paths };
  // Keep the token where the request could be made once more, in a script that is itself started again, say.
  const { id } = await client.submit(spec, randomUUID());
  for await (const { seq, kind, body } of client.events(id)) {
    if (kind === "progress") console.error(`${body.done} of ${body.total} ${body.unit}`);
    else console.error(`${seq} ${id} ${kind} ${body.state ?? body.text ?? ""}`);
  }
  const job = await client.job(id);
  if (job.state !== "done") throw new AlloydError(job.error ?? { message: `${id} is ${job.state}` });
  console.log(job.result.out);
} catch (wrong) {
  if (!(wrong instanceof AlloydError)) throw wrong;
  for (const each of wrong.problems.length ? wrong.problems : [wrong]) {
    console.error(`error: ${each.message} (${each.code})`);
    if (each.hint) console.error(`hint: ${each.hint}`);
  }
  process.exitCode = wrong.exitStatus;
} finally {
  client?.close();
}
