/** What happened, as sentences for whoever watches. Pure: an event in, a sentence out. */

import type {
  AttemptEvent, Connection, GapEvent, NodeRef, OutcomeWord, PlayerState, PublisherState, RoomState, Trial,
} from "../sdk";
import { duration, milliseconds } from "../ui/format";

/** How a sentence is meant. */
export type Tone = "good" | "bad" | "warn" | "info";

/** A sentence of the time line. */
export interface Sentence {
  readonly tone: Tone;
  readonly text: string;
}

/** What a publisher or player does, and to which stream. */
export interface Subject {
  readonly kind: "publish" | "play";
  /** `room/stream`. */
  readonly key: string;
}

const NOUNS = { publish: "Publisher", play: "Player" } as const;
const DOING = { publish: "publishing", play: "playing" } as const;

/** `Publisher of lobby/picture`. */
export function nameOf(subject: Subject): string {
  return `${NOUNS[subject.kind]} of ${subject.key}`;
}

/** A room's change of state; `before` is the one that it follows. */
export function roomSentence(room: string, before: RoomState | null, now: RoomState): Sentence {
  const name = `Room ${room}`;
  switch (now.number) {
    case 0:
      return now.final
        ? { tone: "bad", text: `${name}: ${now.text}. ${advice(now.code)}` }
        : { tone: "info", text: `${name}: left.` };
    case 1:
      return now.code === 0
        ? { tone: "info", text: `${name}: logging in.` }
        : { tone: "warn", text: `${name}: the connection to the coordinator broke; reconnecting. Media goes on.` };
    case 2:
      return before !== null && before.code !== 0
        ? { tone: "good", text: `${name}: connected again${before.session === now.session ? ", in the same session" : ""}.` }
        : { tone: "good", text: `${name}: logged in.` };
  }
}

/** A publisher's or player's change of state or node; `null` where there is nothing to say. */
export function streamSentence(
  subject: Subject,
  before: PublisherState | PlayerState | null,
  now: PublisherState | PlayerState,
): Sentence | null {
  const name = nameOf(subject);
  const same = before !== null && before.number === now.number && before.code === now.code;
  if (same && sameLife(before.node, now.node)) return null;
  switch (now.number) {
    case 0:
      if (now.final) return { tone: "bad", text: `${name}: ${now.text}. ${advice(now.code)}` };
      return before === null ? null : { tone: "info", text: `${name}: stopped.` };
    case 1:
      return now.code === 0
        ? { tone: "info", text: `${name}: asking for a node.` }
        : { tone: "warn", text: `${name}: lost ${before?.node?.id ?? "its node"}; trying the next one.` };
    case 2:
      return { tone: "good", text: `${name}: ${arrival(subject, before, now)}` };
  }
}

function arrival(subject: Subject, before: PublisherState | PlayerState | null, now: PublisherState | PlayerState): string {
  const node = now.node?.id ?? "a node";
  const from = before?.number === 2 ? before.node : null;
  if (from !== null && from.id !== node) return `moved from ${from.id} to ${node}.`;
  if (from !== null) return `${node} came back as another process, and is used again.`;
  const preposition = subject.kind === "publish" ? "to" : "from";
  return `${DOING[subject.kind]} ${preposition} ${node}.`;
}

/** A player's stream became idle, or flows again. */
export function idleSentence(subject: Subject, idle: boolean): Sentence {
  return { tone: "info", text: `${nameOf(subject)}: ${idle ? "nothing flows, as its publisher is muted" : "media flows again"}.` };
}

function sameLife(a: NodeRef | null, b: NodeRef | null): boolean {
  return a?.id === b?.id && a?.incarnation === b?.incarnation;
}

/** What each outcome of an attempt means. */
const OUTCOMES: Record<OutcomeWord, string> = {
  used: "used",
  unreachable: "unreachable",
  timed_out: "no answer in time",
  not_here: "does not have the stream now",
  refused: "refused",
  media_lost: "went silent",
  unneeded: "not needed",
  void: "does not count: this browser was offline",
};

/** An outcome in words. */
export function outcomeWords(outcome: OutcomeWord): string {
  return OUTCOMES[outcome];
}

/** How an outcome is meant. */
export function outcomeTone(outcome: OutcomeWord): Tone {
  switch (outcome) {
    case "used":
      return "good";
    case "unreachable":
    case "timed_out":
    case "refused":
    case "media_lost":
      return "bad";
    case "not_here":
      return "warn";
    case "unneeded":
    case "void":
      return "info";
  }
}

/** The end of an attempt at a node; `null` for those that a person need not hear of. */
export function attemptSentence(subject: Subject, attempt: AttemptEvent): Sentence | null {
  const tried = (what: string): Sentence =>
    ({ tone: "warn", text: `${nameOf(subject)}: ${attempt.node.id} ${what} (${duration(attempt.tookMs)}).` });
  switch (attempt.outcome) {
    case "used":
    case "unneeded":
      return null;
    case "unreachable":
      return tried("was unreachable");
    case "timed_out":
      return tried("did not answer in time");
    case "not_here":
      return tried("does not have the stream now");
    case "refused":
      return tried("refused");
    case "void":
      return tried("was tried in vain, as this browser was offline");
    case "media_lost":
      return { tone: "warn", text: `${nameOf(subject)}: ${attempt.node.id} went silent; it had been in use for ${duration(attempt.tookMs)}.` };
  }
}

/** A stop in the media. */
export function gapSentence(subject: Subject, gap: GapEvent): Sentence {
  const kinds = Object.entries(gap.kinds).map(([kind, ms]) => `${kind} ${milliseconds(ms)}`);
  const each = kinds.length > 1 ? ` (${kinds.join(", ")})` : "";
  const way = sameLife(gap.before, gap.after) ? `still at ${gap.after.id}` : `from ${gap.before.id} to ${gap.after.id}`;
  const what = subject.kind === "publish" ? "sent nothing for" : "no media for";
  return { tone: gap.ms > 1_000 ? "bad" : "warn", text: `${nameOf(subject)}: ${what} ${milliseconds(gap.ms)}${each}, ${way}.` };
}

/** How the client is connected; `null` where there is nothing to say. Without a login it needs no connection. */
export function connectionSentence(before: Connection, now: Connection, needed: boolean): Sentence | null {
  if (now.state === "connected") return { tone: "good", text: `Connected to the coordinator at ${now.url}.` };
  if (before.state === "connected" && needed) {
    return { tone: "warn", text: `Lost the coordinator at ${before.url}; looking for another. Media does not need it.` };
  }
  return null;
}

/** A trace in one line, such as `1. relay-1: unreachable, 12 ms`. */
export function trialLine(trial: Trial): string {
  const detail = trial.detail !== "" && trial.detail !== outcomeWords(trial.outcome) ? ` (${trial.detail})` : "";
  return `${trial.node.id}: ${outcomeWords(trial.outcome)}${detail}, ${duration(trial.tookMs)}`;
}

/** What to do about a final failure. */
export function advice(code: number): string {
  switch (code) {
    case 1002001:
      return "Leave a room first.";
    case 1002030:
      return "See whether a coordinator runs at the address given, then log in again.";
    case 1002033:
      return "Get a token that is signed for this app, room and user.";
    case 1002034:
      return "Log in again once somebody has left.";
    case 1002050:
      return "Close the other page, or log in under another name.";
    case 1002053:
      return "Check this device's network, then log in again.";
    case 1002055:
      return "Ask whoever runs the room.";
    case 1002056:
      return "Get a new token and log in again.";
    case 1003001:
    case 1004001:
      return "Start a node, then try again.";
    case 1003021:
    case 1004021:
      return "Check this device's network and that a node runs, then try again.";
    case 1003025:
      return "The token must allow publishing, and no operator must have ended it.";
    case 1003028:
      return "Choose another stream id.";
    case 1004002:
      return "Publish it first, or play another one.";
    case 1004025:
      return "The token must allow playing, and no operator must have ended it.";
    default:
      return "Try again.";
  }
}
