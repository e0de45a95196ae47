// The path of scripts/accept.py for Node: the official SDK against a running server, configured by OPENAI_BASE_URL,
// OPENAI_API_KEY and BASE_MODEL only. Prints "node <version> OK" at the end.
import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI();
const BASE = process.env.BASE_MODEL ?? "starter";
const pollMs = 1000 * Number(process.env.POLL ?? "1");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const row = (i) =>
  JSON.stringify({
    messages: [
      { role: "system", content: "You are terse." },
      { role: "user", content: `Say ${i}` },
      { role: "assistant", content: `${i}`, weight: 1 },
    ],
  }) + "\n";
const jsonl = (n) => Array.from({ length: n }, (_, i) => row(i)).join("");

async function ended(id) {
  for (const begun = Date.now(); Date.now() - begun < 600_000; await sleep(pollMs)) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (["succeeded", "failed", "cancelled"].includes(job.status)) return job;
  }
  throw new Error(`job ${id} did not end`);
}

async function all(page) {
  const items = [];
  for await (const item of page) items.push(item);
  return items;
}

async function refused(kind, status, call, expected = {}) {
  try {
    await call();
  } catch (error) {
    assert(error instanceof kind, `${error}`);
    assert.equal(error.status, status);
    assert(error.message && error.type);
    for (const [key, value] of Object.entries(expected)) assert.equal(error[key], value, key);
    return;
  }
  throw new Error("nothing was refused");
}

// files and uploads: a stream has no Content-Length, and its form names the file before the purpose
fs.writeFileSync("train.jsonl", jsonl(12));
const file = await client.files.create({ file: fs.createReadStream("train.jsonl"), purpose: "fine-tune" });
assert(file.id.startsWith("file-") && file.object === "file" && file.bytes === jsonl(12).length);
assert.equal(file.filename, "train.jsonl");
const valid = await client.files.create({
  file: await toFile(Buffer.from(jsonl(10)), "valid.jsonl"),
  purpose: "fine-tune",
  expires_after: { anchor: "created_at", seconds: 86400 },
});
assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
assert.equal(await (await client.files.content(file.id)).text(), jsonl(12));
assert((await all(client.files.list({ purpose: "fine-tune", limit: 1 }))).some((f) => f.id === file.id));
const bytes = Buffer.from(jsonl(12));
const upload = await client.uploads.create({ filename: "big.jsonl", purpose: "fine-tune", bytes: bytes.length, mime_type: "text/jsonl" });
const parts = [];
for (let at = 0; at < bytes.length; at += 400)
  parts.push(await client.uploads.parts.create(upload.id, { data: await toFile(bytes.subarray(at, at + 400), "part") }));
const completed = await client.uploads.complete(upload.id, { part_ids: parts.map((part) => part.id) });
assert.equal(completed.status, "completed");
assert.equal(await (await client.files.content(completed.file.id)).text(), jsonl(12));

// a job, its events, checkpoints and result file
let job = await client.fineTuning.jobs.create({
  model: BASE,
  training_file: file.id,
  validation_file: valid.id,
  suffix: "node",
  seed: 7,
  metadata: { run: "node" },
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: "auto" } } },
});
assert(job.id.startsWith("ftjob-") && ["validating_files", "queued"].includes(job.status));
assert.equal(job.fine_tuned_model, null);
assert.equal(job.error, null);
assert((await all(client.fineTuning.jobs.list({ limit: 10, metadata: { run: "node" } }))).some((j) => j.id === job.id));
job = await ended(job.id);
assert.equal(job.status, "succeeded", JSON.stringify(job.error));
assert(job.fine_tuned_model.startsWith("ft:") && job.trained_tokens > 0 && job.hyperparameters.n_epochs === 1);
const events = await all(client.fineTuning.jobs.listEvents(job.id, { limit: 10 }));
assert(events.at(-1).message.startsWith("Created fine-tuning job"));
assert.equal(events[0].message, "The job has successfully completed");
assert.equal(new Set(events.map((event) => event.id)).size, events.length);
const metrics = events.find((event) => event.type === "metrics");
assert(["step", "train_loss", "total_steps"].every((key) => key in metrics.data));
const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(job.id));
assert(checkpoints.length && checkpoints[0].step_number >= checkpoints.at(-1).step_number);
const csv = await (await client.files.content(job.result_files[0])).text();
assert(csv.startsWith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"));

// the model: chat, responses, legacy completions
const model = job.fine_tuned_model;
assert.equal((await client.models.retrieve(model)).id, model);
assert((await all(client.models.list())).some((m) => m.id === model));
const messages = [
  { role: "system", content: "You are terse." },
  { role: "user", content: "Say 3" },
];
const { data: answer, request_id } = await client.chat.completions
  .create({ model, messages, temperature: 0, max_tokens: 8, store: true, metadata: { run: "node" } })
  .withResponse();
assert(request_id && answer.model === model && answer.choices[0].message.role === "assistant" && answer.usage.total_tokens > 0);
const chunks = await all(await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }));
assert.equal(chunks[0].choices[0].delta.role, "assistant");
assert(chunks.at(-1).choices.length === 0 && chunks.at(-1).usage.total_tokens > 0);
assert(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""));
assert((await client.chat.completions.stream({ model, messages }).finalChatCompletion()).choices[0].message.content);
assert((await client.chat.completions.create({ model: checkpoints.at(-1).fine_tuned_model_checkpoint, messages })).choices.length);
const stored = await all(client.chat.completions.list({ metadata: { run: "node" } }));
assert.deepEqual(stored.map((s) => s.id), [answer.id]);
assert((await client.chat.completions.delete(answer.id)).deleted);
const tools = [{ type: "function", function: { name: "now", parameters: { type: "object", properties: {}, additionalProperties: false } } }];
const forced = await client.chat.completions.create({ model, messages, tools, tool_choice: "required", parallel_tool_calls: false });
assert.equal(forced.choices[0].message.tool_calls[0].function.name, "now");
assert((await client.completions.create({ model, prompt: "Say", max_tokens: 3 })).choices[0].text !== undefined);
const response = await client.responses.create({ model, input: "Say 3" });
assert(response.status === "completed" && response.output_text);
const types = (await all(await client.responses.create({ model, input: "Say 3", stream: true }))).map((event) => event.type);
assert(types[0] === "response.created" && types.at(-1) === "response.completed" && types.includes("response.output_text.delta"));

// graders and evals
const grader = { type: "string_check", name: "match", input: "{{sample.output_text}}", reference: "{{item.label}}", operation: "eq" };
assert.equal((await client.fineTuning.alpha.graders.validate({ grader })).grader.type, "string_check");
const graded = await client.fineTuning.alpha.graders.run({ grader, item: { label: "x" }, model_sample: "x" });
assert(graded.reward === 1 && graded.metadata.errors.other_error === false);
const made = await client.evals.create({
  name: "node",
  data_source_config: { type: "custom", item_schema: { type: "object", properties: { q: { type: "string" }, label: { type: "string" } } }, include_sample_schema: true },
  testing_criteria: [grader],
});
let run = await client.evals.runs.create(made.id, {
  name: "r1",
  data_source: {
    type: "completions",
    model,
    source: { type: "file_content", content: [{ item: { q: "Say 3", label: "3" } }] },
    input_messages: { type: "template", template: [{ role: "user", content: "{{item.q}}" }] },
    sampling_params: { temperature: 0, max_completion_tokens: 8, seed: 42 },
  },
});
for (; ["queued", "in_progress"].includes(run.status); await sleep(50)) run = await client.evals.runs.retrieve(run.id, { eval_id: made.id });
assert(run.status === "completed" && run.result_counts.total === 1);
assert.equal(typeof (await all(client.evals.runs.outputItems.list(run.id, { eval_id: made.id })))[0].results[0].passed, "boolean");
assert((await client.evals.delete(made.id)).deleted);

// refusals
const { BadRequestError, NotFoundError, AuthenticationError } = OpenAI;
await refused(BadRequestError, 400, async () => client.files.create({ file: await toFile(Buffer.from("x"), "a.txt"), purpose: "fine-tune" }));
await refused(NotFoundError, 404, () => client.files.retrieve("file-nope"));
await refused(BadRequestError, 400, () => client.fineTuning.jobs.create({ model: BASE, training_file: "file-nope" }), { param: "training_file" });
await refused(BadRequestError, 400, () => client.fineTuning.jobs.create({ model: "nope", training_file: file.id }), { param: "model" });
await refused(NotFoundError, 404, () => client.fineTuning.jobs.retrieve("ftjob-nope"), { code: "fine_tune_not_found" });
await refused(NotFoundError, 404, () => client.chat.completions.create({ model: "ft:x:y::z", messages }), { code: "model_not_found" });
await refused(AuthenticationError, 401, () => new OpenAI({ apiKey: "bad" }).models.list(), { code: "invalid_api_key" });
await refused(BadRequestError, 400, () => client.fineTuning.jobs.cancel(job.id));
const small = await client.files.create({ file: await toFile(Buffer.from(jsonl(3)), "small.jsonl"), purpose: "fine-tune" });
const bad = await ended((await client.fineTuning.jobs.create({ model: BASE, training_file: small.id })).id);
assert.deepEqual([bad.status, bad.error.code, bad.error.param], ["failed", "invalid_n_examples", "training_file"]);

// pause, resume, cancel; then clean up
const long = await client.fineTuning.jobs.create({ model: BASE, training_file: file.id, hyperparameters: { n_epochs: 50 } });
assert.equal((await client.fineTuning.jobs.pause(long.id)).status, "paused");
assert(["queued", "running"].includes((await client.fineTuning.jobs.resume(long.id)).status));
assert.equal((await client.fineTuning.jobs.cancel(long.id)).status, "cancelled");
assert((await client.models.delete(model)).deleted && (await client.files.delete(small.id)).deleted);
console.log("node", process.version, "OK");
