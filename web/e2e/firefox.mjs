// Firefox as a person would use the console page, told what to do line by line, as browser.mjs tells Chromium.
//
// Usage: node firefox.mjs PAGE
// Each line on standard input is a command, a JSON object; each gets one line on standard output, a JSON object with `did`
// and what belongs to it, or with `did` and `error`. A session is named as on the page: "publish ROOM/STREAM".
//
// {"do":"publish","room","stream","codec":"VP8"}     its fake camera and microphone
// {"do":"play","room","stream"}
// {"do":"await","session","state":2,"not_node"}      every condition given must hold
// {"do":"watched","session","frames":60}             once that many frames were shown since the first such command; says
//                                                    frames, the longest time between two of them, and the node
// {"do":"received"}                                  totals of getStats over the page's peer connections
// The end of standard input ends it.
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";
import { prepare } from "./measure.mjs";

const [url] = process.argv.slice(2);
if (url === undefined) throw new Error("usage: firefox.mjs PAGE");
/** Longest wait for each step. */
const LIMIT_MS = 20_000;

const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  extraPrefsFirefox: {
    "media.navigator.streams.fake": true,
    "media.navigator.permission.disabled": true,
    "media.autoplay.default": 0,
    // Names of mDNS would need multicast.
    "media.peerconnection.ice.obfuscate_host_addresses": false,
  },
});
const page = await browser.newPage();
page.setDefaultTimeout(LIMIT_MS);
page.on("pageerror", (error) => console.error(`page error: ${error.stack ?? error.message}`));
page.on("console", (message) => { if (process.env.VERBOSE) console.error(message.text()); });

const card = (session) => `article[data-session="${session}"]`;

/** Types into a field what shall stand there alone. */
const fill = (selector, text) => page.$eval(selector, (element, value) => { element.value = value; }, text);

/** Chooses the first option whose value begins so. */
async function choose(selector, prefix) {
  const value = await page.$eval(selector, (element, start) =>
    [...element.options].map((option) => option.value).find((each) => each.startsWith(start)), prefix);
  if (value === undefined) throw new Error(`${selector} offers no ${prefix}`);
  await page.select(selector, value);
}

const COMMANDS = {
  async publish({ room, stream, codec = "" }) {
    await fill("#publish-room", room);
    await fill("#publish-stream", stream);
    await choose("#publish-picture", "device:");
    await choose("#publish-sound", "device:");
    await page.select("#publish-codec", codec);
    await page.click("#publish-start");
    await page.waitForSelector(card(`publish ${room}/${stream}`));
  },
  async play({ room, stream }) {
    const button = await page.waitForSelector(`[data-play="${room}/${stream}"]`);
    await button.click();
    await page.waitForSelector(card(`play ${room}/${stream}`));
  },
  async await({ session, state, not_node: notNode }) {
    await page.waitForFunction((selector, wanted, unwanted) => {
      const data = document.querySelector(selector)?.dataset;
      return data !== undefined && Number(data.state) === wanted && data.node !== undefined && data.node !== unwanted;
    }, { polling: 20 }, card(session), state, notNode);
    return page.$eval(card(session), (element) => ({ ...element.dataset }));
  },
  async watched({ session, frames }) {
    return page.evaluate((selector, least) => {
      const video = document.querySelector(`${selector} video`);
      const seen = video.seen ??= { frames: 0, gap_ms: 0, last: null };
      return new Promise((resolve) => {
        const look = (at) => {
          seen.frames += 1;
          seen.gap_ms = Math.max(seen.gap_ms, at - (seen.last ?? at));
          seen.last = at;
          if (seen.frames >= least) resolve({ frames: seen.frames, gap_ms: seen.gap_ms });
          else video.requestVideoFrameCallback(look);
        };
        video.requestVideoFrameCallback(look);
      });
    }, card(session), frames);
  },
  received: () => page.evaluate(() => window.measure.received()),
};

async function run(command) {
  try {
    const work = COMMANDS[command.do];
    if (work === undefined) throw new Error(`unknown command ${command.do}: see the top of firefox.mjs`);
    return { did: command.do, ...(await work(command)) };
  } catch (error) {
    console.error(await page.evaluate(() => document.body.innerText).catch(() => "no page"));
    return { did: command.do, error: error.message };
  }
}

try {
  await prepare({ addInitScript: (source) => page.evaluateOnNewDocument(source) });
  await page.goto(url);
  await page.waitForSelector('#status[data-watch="watching"]');
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await run(JSON.parse(line))));
  }
} finally {
  await browser.close();
}
