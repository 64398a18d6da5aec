// Calls every method that @customerio/cdp-analytics-node sends with, waits until all is sent, prints what failed.
import { Analytics } from "@customerio/cdp-analytics-node";

const [url, writeKey] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host: url, maxRetries: 0, flushAt: 3 });
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
await analytics.closeAndFlush();
console.log(JSON.stringify({ failed }));
