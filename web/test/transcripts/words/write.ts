/** Writes the outputs of the transcripts. */

import {
  claimText, nodeText, outcomeWord, streamKeyText, unreachable,
  type Event, type Login, type NodeRef, type Output, type StreamExtended,
} from "../../../src/sdk/machine";

function named(node: NodeRef): string {
  return node.incarnation === 1n ? node.id : nodeText(node);
}

function joined<T>(items: readonly T[], word: (item: T) => string): string {
  return items.map(word).join(" ");
}

function shownLogin(login: Login): string {
  const seen = login.seen === undefined ? "" : ` seen=${login.seen.storeId}:${login.seen.number}`;
  const flags = (login.resume ? " resume" : "") + (login.notifyUsers ? " notify" : "");
  const held = login.claims.map(({ stream, claim }) => ` holds=${stream}@${claimText(claim)}`).join("");
  return `${login.room}(${login.userToken}${flags}${seen}${held})`;
}

function shownStanding(output: Extract<Output, { kind: "dial" }>): string {
  if (output.action === "play") return "";
  return output.moved === undefined ? " standby" : ` move=${output.moved}`;
}

/** An output in words. */
export function show(output: Output): string {
  switch (output.kind) {
    case "connect":
      return `connect ${output.connection} ${output.url} ${joined(output.logins, shownLogin)}`;
    case "disconnect":
      return `disconnect ${output.connection}`;
    case "login":
      return `login ${output.connection} ${output.url} ${shownLogin(output.login)}`;
    case "beat":
      return `beat ${output.connection} ${output.url} ${joined(output.sessions, ({ room }) => room)}`;
    case "logout":
      return `logout ${output.url} ${output.session.room}`;
    case "renewToken":
      return `renew ${output.url} ${output.session.room} ${output.userToken}`;
    case "plan": {
      const key = `${output.session.room}/${output.stream}`;
      const failed = joined(output.failed, named);
      return `plan ${output.request} ${output.url} ${output.action} ${key} failed=[${failed}]`;
    }
    case "endStream":
      return `endstream ${output.url} ${output.session.room}/${output.stream} epoch=${output.epoch}`;
    case "report": {
      const trials = joined(output.trials, ({ node, outcome }) => `${named(node)}:${outcomeWord(outcome)}`);
      return `report ${output.url} ${output.session.room}/${output.stream} [${trials}]`;
    }
    case "dial": {
      const key = streamKeyText(output.key);
      return `dial ${output.attempt} ${output.action} ${key} ${named(output.node.node)}${shownStanding(output)}`;
    }
    case "activate":
      return `activate ${output.attempt} ${claimText(output.claim)}`;
    case "use":
      return `use ${output.attempt} ${output.action} ${streamKeyText(output.key)}`;
    case "hang":
      return `hang ${output.attempt}`;
    case "openEvents":
      return `openevents ${named(output.node.node)}`;
    case "closeEvents":
      return `closeevents ${named(output.node)}`;
    case "emit":
      return `emit ${shownEvent(output.event)}`;
    default:
      return unreachable(output);
  }
}

function shownExtended(node: NodeRef | undefined, extended: StreamExtended): string {
  const trace = joined(extended.trace, (entry) => `${entry.node}:${entry.outcome}`);
  return [
    node === undefined ? "" : ` node=${named(node)}`,
    extended.idle === true ? " idle" : "",
    trace === "" ? "" : ` trace=[${trace}]`,
    extended.retry_after_ms === undefined ? "" : ` retry_after_ms=${extended.retry_after_ms}`,
  ].join("");
}

function shownEvent(event: Event): string {
  switch (event.kind) {
    case "room": {
      const session = event.extended.session === undefined ? "" : ` session=${event.extended.session}`;
      return `room ${event.room} ${event.state} ${event.code}${session}`;
    }
    case "publisher":
    case "player": {
      const more = shownExtended(event.node, event.extended);
      return `${event.kind} ${streamKeyText(event.key)} ${event.state} ${event.code}${more}`;
    }
    case "attempt": {
      const took = Math.floor(event.took);
      return `attempt ${streamKeyText(event.key)} ${named(event.node)} ${outcomeWord(event.outcome)} ${took}ms`;
    }
    case "gap":
      return `gap ${streamKeyText(event.key)} ${Math.floor(event.lasted)}ms`;
    case "users": {
      const users = joined(event.users, ({ user, session }) => `${user}:${session}`);
      return `users ${event.room} ${changes[event.change]} ${users}`;
    }
    case "streams": {
      const streams = joined(event.streams, ({ stream, user, session, epoch }) =>
        [stream, user, session, epoch].join(":"));
      return `streams ${event.room} ${changes[event.change]} ${streams}`;
    }
    case "tokenExpiring":
      return `expiring ${event.room} ${Math.floor(event.in / 1_000)}s`;
    default:
      return unreachable(event);
  }
}

const changes = { add: "Add", delete: "Delete" } as const;
