/** From what the machines tell to what an app gets. Pure. */

import type {
  AttemptEvent, OutcomeWord, PlayerState, PublisherState, RoomState, State, StreamState, Trial,
} from "./api";
import type * as machine from "./machine/event";
import { isFinal, stateNumber, type TraceEntry } from "./machine/event";
import { errorCode, errorText } from "./machine/ids";
import { outcomeText, outcomeWord } from "./machine/trial";

type AnyUpdate = machine.RoomStateUpdate | machine.PublisherStateUpdate | machine.PlayerStateUpdate;

function state<Update extends AnyUpdate>(update: Update): State<Update["state"]> {
  const known = errorCode(update.code);
  return {
    number: stateNumber(update.state),
    name: update.state,
    code: update.code,
    text: known === undefined ? "" : errorText(known),
    final: isFinal(update),
  };
}

/** A room's state. */
export function roomState(update: machine.RoomStateUpdate): RoomState {
  return { ...state(update), session: update.extended.session ?? null };
}

/** A publisher's or a player's state, after an earlier one. */
function streamState<Update extends machine.PublisherStateUpdate | machine.PlayerStateUpdate>(
  update: Update,
  before: StreamState<Update["state"]>,
): StreamState<Update["state"]> {
  const { attempt, idle, trace, retry_after_ms: retryAfterMs } = update.extended;
  return {
    ...state(update),
    node: update.node ?? null,
    attempt: attempt ?? trace.at(-1)?.attempt ?? before.attempt,
    idle: idle ?? false,
    trace: trace.map(trial),
    retryAfterMs: retryAfterMs ?? null,
  };
}

/** A publisher's state, after an earlier one. */
export const publisherState: (update: machine.PublisherStateUpdate, before: PublisherState) => PublisherState = streamState;
/** A player's state, after an earlier one. */
export const playerState: (update: machine.PlayerStateUpdate, before: PlayerState) => PlayerState = streamState;

function trial(entry: TraceEntry): Trial {
  return {
    attempt: entry.attempt,
    node: { id: entry.node, incarnation: entry.incarnation },
    outcome: entry.outcome as OutcomeWord,
    detail: entry.detail,
    atMs: entry.at_ms,
    tookMs: entry.took_ms,
  };
}

/** The end of an attempt. */
export function attemptEvent({ node, outcome, took }: machine.AttemptEvent): AttemptEvent {
  return { node, outcome: outcomeWord(outcome) as OutcomeWord, detail: outcomeText(outcome), tookMs: Math.round(took) };
}

function start<Name extends string>(name: Name): State<Name> {
  return { number: 0, name, code: 0, text: "", final: false };
}

const NO_SESSION = { node: null, attempt: 0, idle: false, trace: [], retryAfterMs: null };

/** Before anything was told. */
export const NOT_LOGGED_IN: RoomState = { ...start("Disconnected"), session: null };
export const NOT_PUBLISHED: PublisherState = { ...start("NoPublish"), ...NO_SESSION };
export const NOT_PLAYED: PlayerState = { ...start("NoPlay"), ...NO_SESSION };
