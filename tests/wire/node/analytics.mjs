// Calls every method that @customerio/cdp-analytics-node sends with, waits until all is sent, prints what failed.
import { Analytics } from "@customerio/cdp-analytics-node";

const [url, writeKey] = process.argv.slice(2);
const client = new Analytics({ writeKey, host: url, maxRetries: 0, flushAt: 3 });
const called = new Set();
// What is called is written down: a method that the client gets with another version has to be called here, too.
const analytics = new Proxy(client, {
  get(target, name) {
    const found = Reflect.get(target, name, target);
    if (typeof found !== "function") return found;
    called.add(name);
    return found.bind(target);
  },
});
const failed = [];
analytics.on("error", (error) => failed.push(String(error.reason ?? error)));
const timestamp = new Date("2013-01-28T16:10:15.000Z");

analytics.identify({ userId: "a1", traits: { email: "a1@example.com", plan: "pro", createdAt: timestamp } });
analytics.track({ userId: "a1", event: "bought", properties: { price: 23.45 }, timestamp, messageId: "message one" });
analytics.track({ anonymousId: "an9", event: "seen" });
analytics.page({ userId: "a1", name: "Home", properties: { url: "https://example.com/a" } });
analytics.screen({ userId: "a1", name: "Start" });
analytics.group({ userId: "a1", groupId: "acme", traits: { name: "Acme" } });
analytics.identify({ userId: "a2", traits: { plan: "old" } });
analytics.alias({ userId: "a1", previousId: "a2" });
await analytics.register({
  name: "enrich",
  type: "enrichment",
  version: "1.0.0",
  isLoaded: () => true,
  load: async () => {},
  track: (context) => {
    if (context.event.event === "enriched") context.updateEvent("properties.enriched", true);
    return context;
  },
});
await new Promise((done) => analytics.track({ userId: "a1", event: "enriched", properties: {} }, done));
await analytics.deregister("enrich");
await analytics.closeAndFlush();
const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(client)).filter(
  (name) => name !== "constructor" && !name.startsWith("_") && typeof client[name] === "function",
);
console.log(JSON.stringify({ failed, missed: methods.filter((name) => !called.has(name)), methods }));
