# usage: OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=sk-local BASE_MODEL=tiny-base python accept.py
import io, json, os, time, asyncio, openai
from openai import OpenAI, AsyncOpenAI
client = OpenAI()                                   # base_url + key come from the environment only
BASE = os.environ.get("BASE_MODEL", "tiny-base")
TERMINAL = {"succeeded", "failed", "cancelled"}
row = lambda i: {"messages": [{"role": "system", "content": "You are terse."},
                              {"role": "user", "content": f"Say {i}"},
                              {"role": "assistant", "content": f"{i}", "weight": 1}]}
def jsonl(n): return "".join(json.dumps(row(i)) + "\n" for i in range(n)).encode()
def wait(job_id, timeout=600):
    t0 = time.time()
    while (j := client.fine_tuning.jobs.retrieve(job_id)).status not in TERMINAL:
        assert time.time() - t0 < timeout; time.sleep(float(os.environ.get("POLL", "1")))
    return j

# 1 upload ------------------------------------------------------------------
open("train.jsonl", "wb").write(jsonl(12))
f = client.files.create(file=open("train.jsonl", "rb"), purpose="fine-tune")
assert f.object == "file" and f.id.startswith("file-") and f.purpose == "fine-tune" and f.bytes == len(jsonl(12)) and f.filename == "train.jsonl"
v = client.files.create(file=("valid.jsonl", jsonl(10)), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 86400})
assert client.files.wait_for_processing(f.id).status == "processed"
assert client.files.content(f.id).read() == jsonl(12)
assert f.id in [x.id for x in client.files.list(purpose="fine-tune", limit=1)]      # auto-paginates with after=
up = client.uploads.upload_file_chunked(file=jsonl(12), filename="big.jsonl", bytes=len(jsonl(12)), mime_type="text/jsonl", purpose="fine-tune", part_size=100)
assert up.status == "completed" and up.file and client.files.content(up.file.id).read() == jsonl(12)

# 2 create ------------------------------------------------------------------
job = client.fine_tuning.jobs.create(model=BASE, training_file=f.id, validation_file=v.id, suffix="accept", seed=7,
        metadata={"run": "acceptance"}, method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto"}}})
assert job.object == "fine_tuning.job" and job.id.startswith("ftjob-") and job.status in ("validating_files", "queued")
assert job.fine_tuned_model is None and job.result_files == [] and job.error is None and job.metadata == {"run": "acceptance"}
assert any(j.id == job.id for j in client.fine_tuning.jobs.list(limit=10, metadata={"run": "acceptance"}))

# 3 watch -------------------------------------------------------------------
job = wait(job.id)
assert job.status == "succeeded", job.error
assert job.fine_tuned_model.startswith("ft:") and job.finished_at and job.trained_tokens > 0 and job.hyperparameters.n_epochs != "auto"
ev = list(client.fine_tuning.jobs.list_events(job.id, limit=10))                     # newest first, pages via after=<last id>
assert ev[-1].message.startswith("Created fine-tuning job") and ev[0].message == "The job has successfully completed"
assert len({e.id for e in ev}) == len(ev)
met = [e for e in ev if e.type == "metrics"]
assert met and {"step", "train_loss", "total_steps"} <= set(met[0].data)
ck = list(client.fine_tuning.jobs.checkpoints.list(job.id))
assert ck and ck[0].fine_tuned_model_checkpoint and ck[0].step_number >= ck[-1].step_number
csv = client.files.content(job.result_files[0]).read()
try: text = csv.decode()
except UnicodeDecodeError: text = ""
if not text.startswith("step,"):
    import base64; text = base64.b64decode(csv).decode()                             # OpenAI serves it base64-encoded
assert text.splitlines()[0].startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")

# 4 use ---------------------------------------------------------------------
M = job.fine_tuned_model
assert client.models.retrieve(M).id == M and M in [m.id for m in client.models.list()]
msgs = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Say 3"}]
r = client.chat.completions.create(model=M, messages=msgs, temperature=0, max_tokens=8)
assert r.object == "chat.completion" and r.model == M and r.choices[0].message.role == "assistant" and r.usage.total_tokens > 0 and r._request_id
chunks = list(client.chat.completions.create(model=M, messages=msgs, stream=True, stream_options={"include_usage": True}))
assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
with client.chat.completions.stream(model=M, messages=msgs) as s:
    for e in s: pass
    assert s.get_final_completion().choices[0].message.content
assert client.chat.completions.create(model=ck[-1].fine_tuned_model_checkpoint, messages=msgs).choices
rs = client.responses.create(model=M, input="Say 3")
assert rs.status == "completed" and rs.output_text
types = [e.type for e in client.responses.create(model=M, input="Say 3", stream=True)]
assert types[0] == "response.created" and types[-1] == "response.completed" and "response.output_text.delta" in types
with client.responses.stream(model=M, input="Say 3") as s:
    for e in s: pass
    assert s.get_final_response().output_text
async def a():
    ac = AsyncOpenAI()
    st = await ac.chat.completions.create(model=M, messages=msgs, stream=True)
    assert "".join([c.choices[0].delta.content or "" async for c in st if c.choices])
asyncio.run(a())

# 5 graders + evals -----------------------------------------------------------
g = {"type": "string_check", "name": "match", "input": "{{sample.output_text}}", "reference": "{{item.label}}", "operation": "eq"}
assert client.fine_tuning.alpha.graders.validate(grader=g).grader.type == "string_check"
gr = client.fine_tuning.alpha.graders.run(grader=g, item={"label": "x"}, model_sample="x")
assert gr.reward == 1.0 and gr.metadata.errors.other_error is False
e = client.evals.create(name="acc", data_source_config={"type": "custom", "item_schema": {"type": "object", "properties": {"q": {"type": "string"}, "label": {"type": "string"}}, "required": ["q", "label"]}, "include_sample_schema": True}, testing_criteria=[g])
run = client.evals.runs.create(e.id, name="r1", data_source={"type": "completions", "model": M, "source": {"type": "file_content", "content": [{"item": {"q": "Say 3", "label": "3"}}]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]}, "sampling_params": {"temperature": 0, "max_completion_tokens": 8, "seed": 42}})
while run.status in ("queued", "in_progress"): run = client.evals.runs.retrieve(run.id, eval_id=e.id); time.sleep(.05)
assert run.status == "completed" and run.result_counts.total == 1
items = list(client.evals.runs.output_items.list(run.id, eval_id=e.id))
assert items[0].results[0].passed in (True, False)
assert client.evals.delete(e.id).deleted

# 6 errors --------------------------------------------------------------------
def raises(cls, status, fn, **kw):
    try: fn()
    except cls as x:
        assert x.status_code == status and x.type and x.message, (x.status_code, x.body)
        for k, val in kw.items(): assert getattr(x, k) == val, (k, getattr(x, k))
        return x
    raise AssertionError("no error")
raises(openai.BadRequestError, 400, lambda: client.files.create(file=("a.txt", b"x"), purpose="fine-tune"), type="invalid_request_error")
raises(openai.NotFoundError, 404, lambda: client.files.retrieve("file-nope"))
raises(openai.BadRequestError, 400, lambda: client.fine_tuning.jobs.create(model=BASE, training_file="file-nope"), param="training_file")
raises(openai.BadRequestError, 400, lambda: client.fine_tuning.jobs.create(model="nope", training_file=f.id), param="model")
raises(openai.NotFoundError, 404, lambda: client.fine_tuning.jobs.retrieve("ftjob-nope"), code="fine_tune_not_found", param="fine_tune_id")
raises(openai.NotFoundError, 404, lambda: client.chat.completions.create(model="ft:x:y::z", messages=msgs), code="model_not_found")
raises(openai.AuthenticationError, 401, lambda: OpenAI(api_key="bad").models.list(), code="invalid_api_key")
raises(openai.BadRequestError, 400, lambda: client.fine_tuning.jobs.cancel(job.id))
small = client.files.create(file=("small.jsonl", jsonl(3)), purpose="fine-tune")
bad = wait(client.fine_tuning.jobs.create(model=BASE, training_file=small.id).id)
assert bad.status == "failed" and bad.error.code == "invalid_n_examples" and bad.error.param == "training_file", bad.error
c = client.fine_tuning.jobs.create(model=BASE, training_file=f.id, hyperparameters={"n_epochs": 50})   # long enough not to finish; legacy field
assert client.fine_tuning.jobs.pause(c.id).status == "paused" and client.fine_tuning.jobs.resume(c.id).status in ("queued", "running")
assert client.fine_tuning.jobs.cancel(c.id).status == "cancelled"
# 7 clean up --------------------------------------------------------------------
assert client.models.delete(M).deleted and client.files.delete(small.id).deleted
print("python", openai.__version__, "OK")
