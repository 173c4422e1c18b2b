/** Refusals of a relay: problem documents (RFC 9457) with Waystation's `code`. */

/** A request that a relay or the development server refused, or that did not get through. */
export class RequestError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 where no answer came. */
    readonly status: number,
    /** A number of the error table, where the problem document had one. */
    readonly code?: number,
  ) {
    super(message);
    this.name = "RequestError";
  }
}

/** Reads why a response is not a success. Never throws: a body of another form yields the status alone. */
export async function refusal(response: Response): Promise<RequestError> {
  const fallback = `${response.status} ${response.statusText}`.trim();
  if (!response.headers.get("content-type")?.startsWith("application/problem+json")) {
    return new RequestError(fallback, response.status);
  }
  try {
    const body: unknown = await response.json();
    const { detail, title, code } = body as { detail?: unknown; title?: unknown; code?: unknown };
    const text = [detail, title].find((part): part is string => typeof part === "string" && part !== "");
    return new RequestError(text ?? fallback, response.status, typeof code === "number" ? code : undefined);
  } catch {
    return new RequestError(fallback, response.status);
  }
}

/** `fetch` whose every failure is a {@link RequestError}. */
export async function request(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    throw new RequestError(`no answer from ${new URL(url, location.href).host}: ${(error as Error).message}`, 0);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}
