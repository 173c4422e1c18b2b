/**
 * The SDK's state machines: pure. No clock, no socket, no randomness: time, answers and a seed come from outside.
 *
 * `Client` composes them and is the only one that a shell drives.
 */

export { Client } from "./client";
export * from "./event";
export type { Hedging } from "./hedge";
export * from "./ids";
export * from "./io";
export type { Duration, Instant } from "./time";
export { failureText, failureWord, isAnswer, outcomeText, outcomeWord } from "./trial";
export type { AttemptId, Failure, Outcome, Trial } from "./trial";
