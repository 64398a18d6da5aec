// Calls every method that customerio-node has for Pipelines. Prints what was answered, by method, as JSON.
import { PipelinesClient } from "customerio-node";

const [url, key] = process.argv.slice(2);
const client = new PipelinesClient(key, { url: `${url}/v1`, strictMode: true, retry: { maxRetries: 0 } });
const said = {};
const call = async (name, ...args) => (said[name] = await client[name](...args));
const timestamp = "2013-01-28T16:10:15.000Z";

await call("identify", { userId: "p1", traits: { email: "p1@example.com", plan: "pro", createdAt: timestamp } });
await call("track", { userId: "p1", event: "bought", properties: { price: 23.45 }, timestamp, messageId: "message one" });
await call("track", { userId: "p1", event: "bought", properties: { price: 23.45 }, timestamp, messageId: "message one" });
await call("page", { userId: "p1", name: "Home", properties: { url: "https://example.com/a" } });
await call("screen", { userId: "p1", name: "Start" });
await call("group", { userId: "p1", groupId: "acme", traits: { name: "Acme", relationshipAttributes: { role: "boss" } } });
await call("identify", { userId: "p2", traits: { plan: "old" } });
await call("alias", { userId: "p1", previousId: "p2" });
await call("batch", [
  { type: "track", userId: "p3", event: "batched", properties: { n: 1 } },
  { type: "identify", userId: "p3", traits: { plan: "batch" } },
]);
const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(client)).filter(
  (name) => !["constructor", "envelope"].includes(name),
);
let refused = "";
try {
  await client.track({ userId: "p1", event: "seen", timestamp: "soon" });
} catch (error) {
  refused = `${error.statusCode ?? error.response?.statusCode}: ${error.message}`;
}
console.log(JSON.stringify({ said, refused, missed: methods.filter((name) => !(name in said)) }));
