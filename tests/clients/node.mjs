// The official libraries for Node, unmodified, told nothing but base URL and key. Reads one JSON object
// {"surface", "jobs": [{"id", "base", "key", "model", "scenario", "text", ...}]} and prints a line of JSON per job: what the library made of
// the answer, in words that are the same for all of them. tests/clients/matrix.py asks and judges.
import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';
import OpenAI, { toFile } from 'openai';

const schema = {
  type: 'object',
  properties: { city: { type: 'string' }, ships: { type: 'integer' } },
  required: ['city', 'ships'],
  additionalProperties: false,
};
const tool = {
  name: 'lookup_port',
  description: 'Find a port',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
  },
};
const result = 'Tallinn has one.';
const last = (list) => list[list.length - 1];

// Reads a stream into `got` with `take`, which returns true where it has said something; ends it after two of those when
// the job is to be cancelled.
async function drain(stream, job, got, take, abort) {
  got.pieces = 0;
  for await (const event of stream) {
    if (take(event)) got.pieces++;
    if (job.scenario === 'cancel' && got.pieces >= 2) {
      got.cancelled = true;
      abort();
      break;
    }
  }
  return got;
}

// ---- OpenAI: chat completions

const openai = (job) => new OpenAI({ baseURL: `${job.base}/v1`, apiKey: job.key, maxRetries: 0, timeout: 60000 });

function chatBody(job, messages) {
  const body = { model: job.model, messages };
  if (job.tools) body.tools = [{ type: 'function', function: tool }];
  if (job.scenario.includes('structured'))
    body.response_format = { type: 'json_schema', json_schema: { name: 'port', strict: true, schema } };
  if (job.scenario.includes('reasoning')) body.reasoning_effort = 'low';
  return body;
}

const chatTokens = (u) => u && { input: u.prompt_tokens, output: u.completion_tokens, total: u.total_tokens };

// Of a message or delta. A provider of this very dialect is heard in its own words: OpenRouter's reasoning is called so,
// Mistral's stands among the parts of the content.
function said({ content, reasoning_content, reasoning }) {
  const all = (parts, type) => parts.filter((p) => p.type === type);
  const join = (parts) => parts.map((p) => p.text).join('');
  if (!Array.isArray(content)) return { text: content ?? '', reasoning: reasoning_content ?? reasoning ?? '' };
  return { text: join(all(content, 'text')), reasoning: join(all(content, 'thinking').flatMap((p) => p.thinking)) };
}

function chatGot(answer) {
  const { message, finish_reason } = answer.choices[0];
  return {
    ...said(message),
    finish: finish_reason,
    calls: (message.tool_calls ?? []).map((c) => ({ name: c.function.name, args: JSON.parse(c.function.arguments), id: c.id })),
    usage: chatTokens(answer.usage),
    request: answer._request_id,
  };
}

async function chat(job, got) {
  const client = openai(job);
  const content =
    job.scenario === 'image'
      ? [
          { type: 'text', text: job.text },
          { type: 'image_url', image_url: { url: `data:image/png;base64,${job.image}` } },
        ]
      : job.text;
  const messages = [{ role: 'user', content }];
  if (job.streams) {
    const abort = new AbortController();
    const stream = client.chat.completions.stream(
      { ...chatBody(job, messages), stream_options: { include_usage: true } },
      { signal: abort.signal },
    );
    Object.assign(got, { text: '', reasoning: '', finish: null, usage: null, calls: [] });
    await drain(
      stream,
      job,
      got,
      (chunk) => {
        const choice = chunk.choices[0];
        const delta = choice?.delta ?? {};
        const { text, reasoning } = said(delta);
        got.text += text;
        got.reasoning += reasoning;
        got.finish = choice?.finish_reason ?? got.finish;
        for (const c of delta.tool_calls ?? []) {
          got.calls[c.index] ??= { name: '', json: '' };
          got.calls[c.index].name += c.function?.name ?? '';
          got.calls[c.index].json += c.function?.arguments ?? '';
        }
        if (chunk.usage) got.usage = chatTokens(chunk.usage);
        return Boolean(delta.content || delta.tool_calls);
      },
      () => abort.abort(),
    );
    if (!got.cancelled) got.whole = chatGot(await stream.finalChatCompletion()); // put together by the library
    return got;
  }
  const first = await client.chat.completions.create(chatBody(job, messages));
  Object.assign(got, chatGot(first));
  if (job.tools && got.calls.length) {
    const after = await client.chat.completions.create(
      chatBody(job, [
        ...messages,
        first.choices[0].message,
        ...first.choices[0].message.tool_calls.map((c) => ({ role: 'tool', tool_call_id: c.id, content: result })),
      ]),
    );
    got.second = chatGot(after);
  }
}

// ---- OpenAI: responses

function responsesBody(job, input) {
  const body = { model: job.model, input, store: false };
  if (job.tools) body.tools = [{ type: 'function', ...tool, strict: true }];
  if (job.scenario.includes('structured')) body.text = { format: { type: 'json_schema', name: 'port', strict: true, schema } };
  if (job.scenario.includes('reasoning')) {
    body.reasoning = { effort: 'low', summary: 'auto' };
    body.include = ['reasoning.encrypted_content'];
  }
  return body;
}

const reasoningOf = (output) =>
  output
    .filter((item) => item.type === 'reasoning')
    .flatMap((item) => [...(item.summary ?? []), ...(item.content ?? [])].map((part) => part.text))
    .join('');

function responsesGot(answer) {
  return {
    text: answer.output_text,
    reasoning: reasoningOf(answer.output),
    finish: answer.status,
    calls: answer.output
      .filter((item) => item.type === 'function_call')
      .map((c) => ({ name: c.name, args: JSON.parse(c.arguments), id: c.call_id })),
    usage: answer.usage && { input: answer.usage.input_tokens, output: answer.usage.output_tokens },
    request: answer._request_id,
  };
}

async function responses(job, got) {
  const client = openai(job);
  const content = [{ type: 'input_text', text: job.text }];
  if (job.scenario === 'image') content.push({ type: 'input_image', image_url: `data:image/png;base64,${job.image}`, detail: 'auto' });
  const input = [{ role: 'user', content }];
  if (job.streams) {
    const abort = new AbortController();
    const stream = client.responses.stream(responsesBody(job, input), { signal: abort.signal });
    Object.assign(got, { text: '', reasoning: '', finish: null, usage: null, calls: [], ended: null });
    await drain(
      stream,
      job,
      got,
      (event) => {
        if (event.type === 'error') throw Object.assign(new Error(event.message), { code: event.code, name: 'error event' });
        if (event.type === 'response.failed')
          throw Object.assign(new Error(event.response.error?.message), { code: event.response.error?.code, name: 'response.failed' });
        if (event.type === 'response.output_text.delta') got.text += event.delta;
        if (/^response\.reasoning(_summary)?_text\.delta$/.test(event.type)) got.reasoning += event.delta;
        if (event.type === 'response.output_item.done' && event.item.type === 'function_call')
          got.calls.push({ name: event.item.name, args: JSON.parse(event.item.arguments) });
        if (event.type === 'response.completed' || event.type === 'response.incomplete') {
          got.finish = event.response.status;
          got.usage = event.response.usage && {
            input: event.response.usage.input_tokens,
            output: event.response.usage.output_tokens,
          };
        }
        return event.type === 'response.output_text.delta' || event.type === 'response.function_call_arguments.delta';
      },
      () => abort.abort(),
    );
    if (!got.cancelled) got.whole = responsesGot(await stream.finalResponse()); // put together by the library
    return got;
  }
  const first = await client.responses.create(responsesBody(job, input));
  Object.assign(got, responsesGot(first));
  if (job.tools && got.calls.length) {
    const outputs = got.calls.map((c) => ({ type: 'function_call_output', call_id: c.id, output: result }));
    got.second = responsesGot(await client.responses.create(responsesBody(job, [...input, ...first.output, ...outputs])));
  }
}

// ---- Anthropic: messages

const anthropic = (job) => new Anthropic({ baseURL: job.base, apiKey: job.key, authToken: null, maxRetries: 0, timeout: 60000 });

function messagesBody(job, messages) {
  const body = { model: job.model, max_tokens: 4000, messages };
  if (job.tools) body.tools = [{ name: tool.name, description: tool.description, input_schema: tool.parameters }];
  if (job.scenario.includes('structured')) body.output_config = { format: { type: 'json_schema', schema } };
  if (job.scenario.includes('reasoning')) body.thinking = { type: 'enabled', budget_tokens: 2000 };
  return body;
}

function messagesGot(answer) {
  const of = (type) => answer.content.filter((block) => block.type === type);
  return {
    text: of('text').map((b) => b.text).join(''),
    reasoning: of('thinking').map((b) => b.thinking).join(''),
    finish: answer.stop_reason,
    calls: of('tool_use').map((b) => ({ name: b.name, args: b.input, id: b.id })),
    usage: answer.usage && { input: answer.usage.input_tokens, output: answer.usage.output_tokens },
    request: answer._request_id,
  };
}

async function messages(job, got) {
  const client = anthropic(job);
  const content = [{ type: 'text', text: job.text }];
  if (job.scenario === 'image') content.push({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: job.image } });
  const asked = [{ role: 'user', content }];
  if (job.streams) {
    Object.assign(got, { text: '', reasoning: '', finish: null, usage: null, calls: [] });
    const stream = client.messages.stream(messagesBody(job, asked));
    await drain(
      stream,
      job,
      got,
      (event) => {
        const delta = event.type === 'content_block_delta' ? event.delta : {};
        if (delta.type === 'text_delta') got.text += delta.text;
        if (delta.type === 'thinking_delta') got.reasoning += delta.thinking;
        return delta.type === 'text_delta' || delta.type === 'input_json_delta';
      },
      () => stream.abort(),
    );
    if (!got.cancelled) Object.assign(got, messagesGot(await stream.finalMessage())); // put together by the library
    return got;
  }
  const first = await client.messages.create(messagesBody(job, asked));
  Object.assign(got, messagesGot(first));
  if (job.tools && got.calls.length) {
    const results = got.calls.map((c) => ({ type: 'tool_result', tool_use_id: c.id, content: result }));
    got.second = messagesGot(
      await client.messages.create(
        messagesBody(job, [...asked, { role: 'assistant', content: first.content }, { role: 'user', content: results }]),
      ),
    );
  }
}

// ---- Google: generateContent

const genai = (job) => new GoogleGenAI({ apiKey: job.key, httpOptions: { baseUrl: job.base, timeout: 60000 } });

function generateBody(job, contents, abort) {
  const config = { abortSignal: abort?.signal };
  if (job.tools)
    config.tools = [{ functionDeclarations: [{ name: tool.name, description: tool.description, parametersJsonSchema: tool.parameters }] }];
  if (job.scenario.includes('structured')) {
    config.responseMimeType = 'application/json';
    config.responseJsonSchema = schema;
  }
  if (job.scenario.includes('reasoning')) config.thinkingConfig = { includeThoughts: true, thinkingBudget: 1024 };
  return { model: job.model, contents, config };
}

const partsOf = (answer) => answer.candidates?.[0]?.content?.parts ?? [];

function generateGot(answer) {
  const usage = answer.usageMetadata;
  return {
    text: partsOf(answer).filter((p) => p.text && !p.thought).map((p) => p.text).join(''),
    reasoning: partsOf(answer).filter((p) => p.text && p.thought).map((p) => p.text).join(''),
    finish: answer.candidates?.[0]?.finishReason ?? null,
    calls: (answer.functionCalls ?? []).map((c) => ({ name: c.name, args: c.args, id: c.id })),
    usage: usage && { input: usage.promptTokenCount, output: (usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0) },
  };
}

async function generate(job, got) {
  const client = genai(job);
  const parts = [{ text: job.text }];
  if (job.scenario === 'image') parts.push({ inlineData: { mimeType: 'image/png', data: job.image } });
  const contents = [{ role: 'user', parts }];
  if (job.streams) {
    const abort = new AbortController();
    Object.assign(got, { text: '', reasoning: '', finish: null, usage: null, calls: [] });
    const stream = await client.models.generateContentStream(generateBody(job, contents, abort));
    return drain(
      stream,
      job,
      got,
      (chunk) => {
        const one = generateGot(chunk);
        got.text += one.text;
        got.reasoning += one.reasoning;
        got.calls.push(...one.calls);
        got.finish = one.finish ?? got.finish;
        got.usage = one.usage ?? got.usage;
        return Boolean(one.text || one.calls.length);
      },
      () => abort.abort(),
    );
  }
  const first = await client.models.generateContent(generateBody(job, contents));
  Object.assign(got, generateGot(first));
  if (job.tools && got.calls.length) {
    const results = got.calls.map((c) => ({
      functionResponse: { name: c.name, response: { output: result }, ...(c.id ? { id: c.id } : {}) },
    }));
    got.second = generateGot(
      await client.models.generateContent(
        generateBody(job, [...contents, first.candidates[0].content, { role: 'user', parts: results }]),
      ),
    );
  }
}

// ---- what is asked beside conversations

const vectorsGot = (vectors, usage) => ({ count: vectors.length, length: vectors[0]?.length ?? 0, usage });

const more = {
  async openai_embeddings(job) {
    const answer = await openai(job).embeddings.create({ model: job.model, input: ['one ship', 'two ships'] });
    return vectorsGot(
      answer.data.map((d) => d.embedding),
      answer.usage && { input: answer.usage.prompt_tokens },
    );
  },
  async openai_models(job) {
    const client = openai(job);
    const ids = (await client.models.list()).data.map((m) => m.id);
    return { ids, one: (await client.models.retrieve(job.model)).id };
  },
  async openai_speech(job) {
    const answer = await openai(job).audio.speech.create({ model: job.model, voice: job.voice, input: job.text, response_format: 'mp3' });
    return { bytes: (await answer.arrayBuffer()).byteLength, type: answer.headers.get('content-type') };
  },
  async openai_transcription(job) {
    const file = await toFile(Buffer.from(job.audio, 'base64'), 'said.wav', { type: 'audio/wav' });
    return { text: (await openai(job).audio.transcriptions.create({ model: job.model, file })).text };
  },
  async anthropic_count(job) {
    const body = { model: job.model, messages: [{ role: 'user', content: job.text }] };
    return { input: (await anthropic(job).messages.countTokens(body)).input_tokens };
  },
  async anthropic_models(job) {
    const client = anthropic(job);
    const ids = [];
    for await (const m of client.models.list({ limit: 1000 })) ids.push(m.id);
    return { ids, one: (await client.models.retrieve(job.model)).id };
  },
  async gemini_count(job) {
    return { input: (await genai(job).models.countTokens({ model: job.model, contents: job.text })).totalTokens };
  },
  async gemini_embeddings(job) {
    const answer = await genai(job).models.embedContent({ model: job.model, contents: ['one ship'] });
    return vectorsGot(answer.embeddings.map((e) => e.values));
  },
  async gemini_models(job) {
    const ids = [];
    for await (const m of await genai(job).models.list()) ids.push(m.name);
    return { ids };
  },
};

// ---- jobs

const surfaces = { openai_chat: chat, openai_responses: responses, anthropic_messages: messages, gemini: generate };

function errorOf(e) {
  return {
    name: e.name === 'Error' ? e.constructor.name : e.name ?? e.constructor.name,
    class: e.constructor.name,
    status: e.status ?? null,
    code: e.code ?? e.error?.error?.type ?? null,
    type: e.type ?? null,
    message: String(e.message ?? e).slice(0, 600),
    request: e.requestID ?? e.request_id ?? null,
  };
}

let text = '';
for await (const piece of process.stdin) text += piece;
const { jobs } = JSON.parse(text);
for (const job of jobs) {
  const got = {};
  try {
    if (more[job.surface]) Object.assign(got, await more[job.surface](job));
    else await surfaces[job.surface](job, got);
    for (const call of got.calls ?? []) if ('json' in call) call.args = JSON.parse(call.json || '{}');
  } catch (e) {
    got.error = errorOf(e);
  }
  console.log(JSON.stringify({ id: job.id, ...got }));
}
