/** What a node's answer to a POST means. Pure. RFC 9725 §4.2, RFC 9457 (problem documents). */

import { ErrorCode } from "../machine/ids";
import type { Failure } from "../machine/trial";

/** Longest answer read, in characters. */
export const MAX_BODY_LENGTH = 64 << 10;

/** The members of a problem document that matter here. */
interface Problem {
  type: string;
  text: string;
  code: number;
}

/** Reads a problem document. One that cannot be read says nothing. */
export function problem(body: string): Problem {
  let members: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null) members = { ...parsed };
  } catch {
    // A refusal whose document cannot be read is still that refusal.
  }
  const { type, title, detail, code } = members;
  const text = [detail, title].find((member) => typeof member === "string" && member !== "");
  return {
    type: typeof type === "string" ? type : "",
    text: typeof text === "string" ? text : "",
    code: typeof code === "number" ? code : 0,
  };
}

/** Why a node's answer opens no session; `undefined` if it does. */
export function refusal(status: number, retryAfter: string | null, body: string): Failure | undefined {
  if (status === 201) return undefined;
  const { type, text, code } = problem(body);
  switch (status) {
    case 401:
    case 403: {
      const ended = status === 403 && (code === ErrorCode.Kicked || code === ErrorCode.Replaced);
      return { kind: ended ? "loginEnded" : "tokenRefused", detail: text };
    }
    case 404:
    case 409:
      if (status === 409 && code === ErrorCode.StreamTaken) return { kind: "higherClaim" };
      return type.endsWith(":fenced") ? other(status, text) : { kind: "notHere" };
    // What a redirection looks like to a page that does not follow it: no status at all.
    case 0:
    case 307:
    case 308:
      return { kind: "refused", detail: "redirected elsewhere" };
    case 429:
    case 503:
      return { kind: "refused", detail: `node is full or leaving${retryAfter === null ? "" : `; it says to come back in ${retryAfter} s`}` };
    default:
      return other(status, text);
  }
}

function other(status: number, text: string): Failure {
  return { kind: "refused", detail: `HTTP status ${status}: ${text}` };
}
