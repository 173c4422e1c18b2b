/** The error codes that clients see. */

/** What each number of the behaviour's table says, in one line. */
export const ERROR_TEXTS: Readonly<Record<number, string>> = {
  1002001: "too many rooms for this client",
  1002030: "could not connect to any coordinator",
  1002033: "token refused",
  1002034: "room full",
  1002050: "kicked: the same user logged in elsewhere",
  1002051: "connection broken, reconnecting",
  1002053: "gave up reconnecting",
  1002055: "kicked by an operator",
  1002056: "token expired and not renewed",
  1003001: "publish failed: every node was tried",
  1003020: "publish interrupted, recovering",
  1003021: "gave up publishing",
  1003025: "publishing forbidden by the token or an operator",
  1003028: "the stream id is being published by another user",
  1004001: "play failed: every node was tried",
  1004002: "no such stream in the room",
  1004020: "play interrupted, recovering",
  1004021: "gave up playing",
  1004025: "playing forbidden by the token or an operator",
};

/** The code by which a node says that a higher claim holds the stream. */
export const STREAM_TAKEN = 1003028;

/** Whether the table has this number. */
export function isErrorCode(number: number): boolean {
  return Object.hasOwn(ERROR_TEXTS, number);
}
