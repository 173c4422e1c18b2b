// Chromium as a person would use the console page, told what to do line by line.
//
// Usage: node browser.mjs PAGE     with TOKEN in the environment where a person would have to paste a user token
// Each line on standard input is a command, a JSON object; each gets one line on standard output, a JSON object with `did`
// and what belongs to it, or with `did` and `error`. Commands run one after the other. Each tab is a visitor of its own
// (cookies, storage, user name) and opens when it is first named; `tab` is "main" unless given. A session is named as on
// the page: "publish ROOM/STREAM", "play ROOM/STREAM", "room ROOM".
//
// {"do":"open","tab","width","height","theme":"light"|"dark"}
// {"do":"login","room","user"}     as this user; without it publish and play log in under the page's own made-up name
// {"do":"publish","room","stream","picture":"test"|"camera"|"none","sound":"tone"|"microphone"|"none","codec":"VP8"}
// {"do":"play","room","stream"}
// {"do":"await","session","state":2,"node","not_node","gaps":1,"within_ms":20000}   every condition given must hold
// {"do":"state"}                   sessions, rooms and nodes with their data attributes, and the time line's sentences
// {"do":"measure","session"}       starts to measure a player's picture and tone, afresh
// {"do":"measured","session","frames":1}   figures, once that many more numbered frames came, and sound: video_gap_ms,
//                                  lost_gap_ms (the longest in which numbers are missing), audio_gap_ms, shown_gap_ms (the
//                                  longest that the page showed meanwhile), numbers, backwards, unreadable ...
// {"do":"received"}                totals of getStats over the tab's peer connections: frames, audio, ciphers ...
// {"do":"nodes","healthy":3}       waits until so many nodes are healthy
// {"do":"kill","of":["publish ROOM/STREAM"]}   the nodes of these sessions at once, by the page's buttons: killed (nodes),
//                                  at (the node of each session when they died); gaps before are forgotten
// {"do":"freeze"|"start","node"}   by the page's button
// {"do":"act","session","action"}  a button of a session's card, such as "stop", "mute-video", "retry"
// {"do":"switch","session","kind":"video"|"audio","to":"test"|"camera"|"screen"|"tone"|"microphone"}   a publisher's source
// {"do":"reload"}                  the same visitor comes back
// {"do":"click","selector"}         anything else
// {"do":"screenshot","path","full":true}
// {"do":"quit"}                    so does the end of standard input
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { prepare } from "./measure.mjs";

const [page] = process.argv.slice(2);
if (page === undefined) throw new Error("usage: browser.mjs PAGE");
/** Longest wait for each step, unless the command says otherwise. */
const LIMIT_MS = 20_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--auto-select-desktop-capture-source=Entire screen",
    "--allow-loopback-in-peer-connection", "--autoplay-policy=no-user-gesture-required",
  ],
});

/** Pages by the names that commands give them. */
const tabs = new Map();

async function tabOf({ tab: name = "main", width = 1440, height = 1000, theme = "light" }) {
  const there = tabs.get(name);
  if (there !== undefined) return there;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
  if (process.env.TOKEN) {
    await context.addInitScript((token) => sessionStorage.setItem("waystation-token", token), process.env.TOKEN);
  }
  const tab = await context.newPage();
  tab.setDefaultTimeout(LIMIT_MS);
  tab.on("pageerror", (error) => console.error(`${name}: page error: ${error.stack ?? error.message}`));
  tab.on("console", (message) => { if (process.env.VERBOSE) console.error(`${name}: ${message.text()}`); });
  await prepare(tab);
  tabs.set(name, tab);
  await tab.goto(page);
  await tab.waitForSelector('#status[data-watch="watching"]');
  return tab;
}

const card = (session) => `[data-session="${session}"]`;

/** Chooses an option by its value, or the first whose value begins with it: devices have ids that nobody knows ahead. */
async function choose(tab, selector, word) {
  const start = { camera: "device:", microphone: "device:", none: "" }[word] ?? word;
  // The page asks the browser for its devices while it is shown already.
  const found = await tab.waitForFunction(([where, wanted]) => [...document.querySelector(where).options]
    .find(({ value }) => (wanted === "" ? value === "" : value.startsWith(wanted))), [selector, start]);
  await tab.selectOption(selector, await found.evaluate(({ value }) => value));
}

/** The data attributes of all elements that match. */
const dataOf = (tab, selector) => tab.$$eval(selector, (elements) => elements.map((element) => ({ ...element.dataset })));

const COMMANDS = {
  async open(tab) {
    return { user: await tab.inputValue("#login-user") };
  },
  async login(tab, { room = "lobby", user }) {
    await tab.fill("#login-room", room);
    if (user !== undefined) await tab.fill("#login-user", user);
    await tab.click("#login-start");
    await tab.waitForSelector(`${card(`room ${room}`)}[data-state]`);
  },
  async publish(tab, { room = "lobby", stream = "picture", picture = "test", sound = "tone", codec = "" }) {
    await tab.fill("#publish-room", room);
    await tab.fill("#publish-stream", stream);
    await choose(tab, "#publish-picture", picture);
    await choose(tab, "#publish-sound", sound);
    await tab.selectOption("#publish-codec", codec);
    await tab.click("#publish-start");
    const problem = tab.waitForSelector("#publish-note:not([hidden])").then(async (note) => { throw new Error(await note.textContent()); });
    await Promise.race([tab.waitForSelector(card(`publish ${room}/${stream}`)), problem]);
    problem.catch(() => undefined);
  },
  async play(tab, { room = "lobby", stream = "picture" }) {
    // The page shows its own streams before the room has them: a coordinator knows of moves, and of an origin once there is one.
    await tab.waitForSelector(`[data-stream="${room}/${stream}"][data-moves][data-origin]`);
    await tab.click(`[data-play="${room}/${stream}"]`);
    await tab.waitForSelector(card(`play ${room}/${stream}`));
  },
  async await(tab, { session, state, node, not_node: notNode, gaps, within_ms: withinMs = LIMIT_MS }) {
    const wanted = { selector: card(session), state, node, notNode, gaps };
    await tab.waitForFunction((want) => {
      const data = document.querySelector(want.selector)?.dataset;
      return data !== undefined
        && (want.state === undefined || data.state === String(want.state))
        && (want.node === undefined || data.node === want.node)
        && (want.notNode === undefined || (data.node !== undefined && data.node !== want.notNode))
        && (want.gaps === undefined || Number(data.gaps ?? 0) >= want.gaps);
    }, wanted, { timeout: withinMs }).catch(async (error) => {
      throw new Error(`${error.message.split("\n")[0]}: ${session} is ${JSON.stringify(await dataOf(tab, card(session)))}`);
    });
    return { session: (await dataOf(tab, card(session)))[0] };
  },
  async state(tab) {
    const sessions = await tab.$$eval("article[data-session]", (cards) => cards.map((element) => ({
      ...element.dataset,
      trace: [...element.querySelectorAll("[data-part=trace] li")].map((trial) => ({ ...trial.dataset, text: trial.title })),
      problem: element.querySelector("[data-part=problem]:not([hidden])")?.textContent ?? null,
    })));
    const timeline = await tab.$$eval("#timeline-list li", (entries) => entries.slice(0, 60).map((entry) => entry.innerText.replace(/\s+/g, " ")));
    return { sessions, rooms: await dataOf(tab, "#rooms-list > li"), nodes: await dataOf(tab, "#nodes-list > li"), timeline };
  },
  async measure(tab, { session }) {
    await tab.evaluate((name) => window.measure.start(name), session);
  },
  async measured(tab, { session, frames = 1 }) {
    const before = await tab.evaluate((name) => window.measure.read(name), session);
    await tab.waitForFunction(([name, numbers, heard]) => {
      const now = window.measure.read(name);
      return now.numbers >= numbers && now.heard > heard;
    }, [session, before.numbers + frames, before.heard]);
    return tab.evaluate((name) => window.measure.read(name), session);
  },
  received: (tab) => tab.evaluate(() => window.measure.received()),
  async nodes(tab, { healthy }) {
    const enough = (least) => document.querySelectorAll("#nodes-list > [data-state=healthy]").length >= least;
    await tab.waitForFunction(enough, healthy);
  },
  async kill(tab, { of }) {
    // In one go, so that the sessions are still at these nodes, and so that no node's death is over before the next one's.
    const done = await tab.waitForFunction((sessions) => {
      const cards = [...document.querySelectorAll("article[data-session]")].map(({ dataset }) => dataset);
      const at = Object.fromEntries(cards.filter(({ state }) => state === "2").map(({ session, node }) => [session, node]));
      const killed = [...new Set(sessions.map((session) => at[session]))];
      const buttons = killed.map((node) => document.querySelector(`#nodes-list [data-node="${node}"] [data-action=kill]`));
      if (buttons.some((button) => button === null || button.hidden)) return null;
      window.measure.mark();
      for (const button of buttons) button.click();
      return { killed, at };
    }, of);
    return done.jsonValue();
  },
  freeze: (tab, { node }) => tab.click(`#nodes-list [data-node="${node}"] [data-action=freeze]`),
  async start(tab, { node }) {
    await tab.click(`#nodes-list [data-node="${node}"] [data-action=start]`);
    await tab.waitForSelector(`#nodes-list [data-node="${node}"][data-state=healthy]`);
  },
  act: (tab, { session, action }) => tab.click(`${card(session)} [data-action="${action}"]`),
  switch: (tab, { session, kind, to }) => choose(tab, `${card(session)} [data-switch="${kind}"]`, to),
  async reload(tab) {
    await tab.reload();
    await tab.waitForSelector('#status[data-watch="watching"]');
  },
  click: (tab, { selector }) => tab.click(selector),
  async screenshot(tab, { path, full = false }) {
    await tab.screenshot({ path, fullPage: full });
  },
};

async function run(line) {
  const command = JSON.parse(line);
  try {
    const work = COMMANDS[command.do];
    if (work === undefined) throw new Error(`unknown command ${command.do}: see the top of browser.mjs`);
    return { did: command.do, ...(await work(await tabOf(command), command)) };
  } catch (error) {
    const text = await tabs.get(command.tab ?? "main")?.evaluate(() => document.body.innerText).catch(() => "no page");
    console.error(text ?? "");
    return { did: command.do, error: error.message };
  }
}

try {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "") continue;
    if (JSON.parse(line).do === "quit") break;
    console.log(JSON.stringify(await run(line)));
  }
} finally {
  await browser.close();
  // Whoever gives the commands may hold the pipe open.
  process.stdin.destroy();
}
