/** Refusals of the development server: problem documents (RFC 9457). */

/** Reads why a response is not a success. Never throws: a body of another form yields the status alone. */
export async function refusal(response: Response): Promise<Error> {
  const fallback = new Error(`the server answered ${response.status} ${response.statusText}`.trim());
  if (!response.headers.get("content-type")?.startsWith("application/problem+json")) return fallback;
  try {
    const body: unknown = await response.json();
    const { detail, title } = body as { detail?: unknown; title?: unknown };
    const text = [detail, title].find((part): part is string => typeof part === "string" && part !== "");
    return text === undefined ? fallback : new Error(text);
  } catch {
    return fallback;
  }
}

/** `fetch` that fails with a reason unless the server agreed. */
export async function request(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    const { host } = new URL(url, location.href);
    throw new Error(`no answer from ${host} (${(error as Error).message}): see whether \`waystation dev\` still runs`, { cause: error });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}
