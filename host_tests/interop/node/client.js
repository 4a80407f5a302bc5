// node-coap-client: client.js URI SETTINGS < STEPS. A line of JSON for each step's outcome.
// SETTINGS: {"identity": ..., "key": text, "suites": names of SUITES, none: what node-dtls-client offers by itself}.
// STEPS: [{"method": "GET", "path": ..., "payload": text, "confirmable": true}, ...]; {"method": "ping"}.
"use strict";
const { dtls } = require("node-dtls-client");
const { CoapClient } = require("node-coap-client");

const SUITES = {
    ccm8: "TLS_PSK_WITH_AES_128_CCM_8",
    ccm: "TLS_PSK_WITH_AES_128_CCM",
    gcm: "TLS_PSK_WITH_AES_128_GCM_SHA256",
};
const WITHIN_MS = 10000;

const [uri, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const steps = JSON.parse(require("fs").readFileSync(0, "utf8"));
if (settings.suites) {
    const create = dtls.createSocket;
    dtls.createSocket = (options) => create({ ...options, ciphers: settings.suites.map((name) => SUITES[name]) });
}

function within(promise) {
    const late = new Promise((_, refuse) => setTimeout(() => refuse(new Error("no answer")), WITHIN_MS).unref());
    return Promise.race([promise, late]);
}

async function attempt(step) {
    if (step.method === "ping") return { pong: await CoapClient.ping(uri) };
    const payload = step.payload === undefined ? undefined : Buffer.from(step.payload);
    const options = { keepAlive: true, confirmable: step.confirmable ?? true };
    const request = CoapClient.request(`${uri}/${step.path}`, step.method.toLowerCase(), payload, options);
    const response = await within(request);
    return { code: response.code.toString(), payload: (response.payload ?? Buffer.alloc(0)).toString("hex") };
}

async function main() {
    CoapClient.setSecurityParams(new URL(uri).hostname, { psk: { [settings.identity]: settings.key } });
    for (const step of steps) {
        const outcome = await attempt(step).catch((error) => ({ error: error.message }));
        console.log(JSON.stringify(outcome));
    }
    CoapClient.reset();
    setTimeout(() => process.exit(0), 100); // for close_notify to go out
}

main();
