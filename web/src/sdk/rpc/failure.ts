/** What it means when a call to a coordinator brings no answer. Pure. */

import { Code, ConnectError } from "@connectrpc/connect";

import { errorCode } from "../machine/ids";
import type { CallFailure } from "../machine/io";

/** Metadata that holds the number of a refusal. */
export const CODE_METADATA = "waystation-code";

/** A coordinator's word, or something that another coordinator or a later call may mend. */
export function callFailure(error: unknown): CallFailure {
  const failed = ConnectError.from(error);
  const number = failed.metadata.get(CODE_METADATA);
  const code = number === null ? undefined : errorCode(Number(number));
  if (code !== undefined) return { kind: "refused", code };
  return failed.code === Code.NotFound ? { kind: "notConnected" } : { kind: "failed" };
}
