// The official openai client for Node.js through the gate: list, chat, two streams, embeddings, and a stranger.
// Prints one JSON object with what the client saw; the Python test compares it with the receipts.
import OpenAI from "openai";

const [baseURL, apiKey, prefix] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const named = (step) => ({ headers: { "x-request-id": `${prefix}-${step}` } });
const fixed = {
  model: "smollm2",
  max_tokens: 8,
  temperature: 0,
  messages: [{ role: "user", content: "Name three colours." }],
};

async function streamed(step, options) {
  const seen = { text: "", usage: null };
  for await (const chunk of await client.chat.completions.create({ ...fixed, ...options, stream: true }, named(step))) {
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.usage = chunk.usage ?? seen.usage;
  }
  return seen;
}

const models = [];
for await (const model of await client.models.list()) models.push(model.id);
const chat = await client.chat.completions.create(fixed, named("chat"));
const embeddings = await client.embeddings.create({ model: "smollm2", input: "hello", encoding_format: "float" }, named("embeddings"));
const seen = {
  models,
  chat: { text: chat.choices[0].message.content, usage: chat.usage },
  stream: await streamed("stream", { stream_options: { include_usage: true } }),
  silent: await streamed("silent", {}),
  embeddings: { length: embeddings.data[0].embedding.length, usage: embeddings.usage },
};
try {
  await new OpenAI({ baseURL, apiKey: "sk-nobody-000000000000000", maxRetries: 0 }).chat.completions.create(fixed);
} catch (fault) {
  seen.stranger = { status: fault.status, code: fault.code };
}
console.log(JSON.stringify(seen));
