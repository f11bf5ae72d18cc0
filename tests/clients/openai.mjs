// The official OpenAI library, unmodified, told nothing but base URL and key. Prints one JSON object of what it got;
// tests/clients/test_openai_node.py asserts on it.
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const model = process.env.MODEL;
const out = {};

const tools = [
  {
    type: 'function',
    function: {
      name: 'lookup_port',
      description: 'Find a port',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
];

const chat = await client.chat.completions
  .create({ model, messages: [{ role: 'user', content: 'Name a harbour.' }] })
  .withResponse();
out.chat = {
  text: chat.data.choices[0].message.content,
  finish: chat.data.choices[0].finish_reason,
  usage: chat.data.usage,
  request_id: chat.data._request_id,
  billing: chat.response.headers.get('x-tollgate-billing-source'),
  cost: chat.response.headers.get('x-tollgate-cost'),
};

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: 'user', content: 'Count the ships.' }],
  stream: true,
  stream_options: { include_usage: true },
});
out.stream = { text: '', finish: null, usage: null, chunks: 0 };
for await (const chunk of stream) {
  out.stream.chunks++;
  out.stream.text += chunk.choices[0]?.delta?.content ?? '';
  out.stream.finish = chunk.choices[0]?.finish_reason ?? out.stream.finish;
  out.stream.usage = chunk.usage ?? out.stream.usage;
}

const unasked = await client.chat.completions.create({
  model,
  messages: [{ role: 'user', content: 'Count the ships.' }],
  stream: true,
});
out.unasked = { usage_chunks: 0, text: '' };
for await (const chunk of unasked) {
  if (chunk.choices.length === 0) out.unasked.usage_chunks++;
  out.unasked.text += chunk.choices[0]?.delta?.content ?? '';
}

const messages = [{ role: 'user', content: 'Use the tool to find a port.' }];
const asked = await client.chat.completions.create({ model, messages, tools });
const call = asked.choices[0].message.tool_calls?.[0];
out.tool = { name: call?.function.name, finish: asked.choices[0].finish_reason };
out.tool.arguments = JSON.parse(call?.function.arguments || 'null');
const after = await client.chat.completions.create({
  model,
  tools,
  messages: [
    ...messages,
    asked.choices[0].message,
    { role: 'tool', tool_call_id: call.id, content: 'Tallinn has one.' },
  ],
});
out.tool.answer = after.choices[0].message.content;

out.models = (await client.models.list()).data.map((m) => m.id);

const caught = async (fn) => {
  try {
    await fn();
    return null;
  } catch (e) {
    return { status: e.status, code: e.code, type: e.type, name: e.constructor.name, request_id: e.requestID };
  }
};
out.bad_key = await caught(() =>
  new OpenAI({ baseURL: process.env.BASE_URL, apiKey: 'not-a-key' }).models.list(),
);
out.bad_model = await caught(() =>
  client.chat.completions.create({ model: 'nobody-serves-this', messages: [{ role: 'user', content: 'Hi' }] }),
);

console.log(JSON.stringify(out));
