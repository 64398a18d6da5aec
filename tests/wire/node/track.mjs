// Calls every method that customerio-node has for the Track API. Prints what was answered, by method, as JSON.
import { TrackClient } from "customerio-node";

const [url, site, key, segment] = process.argv.slice(2);
const client = new TrackClient(site, key, { url: `${url}/api/v1`, retry: { maxRetries: 0 } });
const said = {};
const call = async (name, ...args) => (said[name] = await client[name](...args));

await call("identify", "n1", { email: "n1@example.com", plan: "pro", _timestamp: 1359389415 });
await call("identify", "n2", { plan: "free" });
await call("identify", "n3", {});
await call("identify", "a/b?c", { plan: "odd" });
await call("track", "n1", { name: "bought", data: { price: 23.45 }, timestamp: 1359389415 });
await call("trackAnonymous", "an1", { name: "seen", data: { a: 1 } });
await call("trackPageView", "n1", "/pricing");
await call("addDevice", "n1", "token:1", "ios", { last_used: 1359389415, attributes: { color: "red" } });
await call("addDevice", "n1", "token:2", "android", {});
await call("deleteDevice", "n1", "token:2");
await call("addCustomersToSegment", segment, ["n1", "n2", "n3"]);
await call("removeCustomersFromSegment", segment, ["n2"], "id");
await call("batch", [
  { type: "person", action: "identify", identifiers: { id: "n4" }, attributes: { plan: "batch" } },
  { type: "person", action: "event", identifiers: { id: "n4" }, name: "batched", attributes: { n: 1 } },
]);
await call("entity", { type: "person", action: "identify", identifiers: { id: "n5" }, attributes: { plan: "entity" } });
await call("submitForm", "form1", { email: "form@example.com", color: "blue" });
await call("reportMetric", { delivery_id: "unknown", metric: "opened", timestamp: 1359389415 });
await call("trackPush", { delivery_id: "unknown", device_id: "token:1", event: "opened", timestamp: 1359389415 });
await call("unsubscribe", "unknown");
await call("getAccountRegion");
await call("identify", "n6", { email: "n6@example.com" });
await call("mergeCustomers", "id", "n1", "id", "n6");
await call("suppress", "n3");
await call("unsuppress", "n3");
await call("destroy", "n2");
const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(client)).filter((name) => name !== "constructor");
let refused = "";
try {
  await client.track("n1", { name: "x", id: "42" });
} catch (error) {
  refused = `${error.statusCode ?? error.response?.statusCode}: ${error.message}`;
}
console.log(JSON.stringify({ said, refused, missed: methods.filter((name) => !(name in said)) }));
