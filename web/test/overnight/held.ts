/**
 * How many entries a machine's arrays, maps and sets hold, private fields included: only the debugger can see those.
 *
 * Invariant: each object is counted once, under the first path that leads to it; a path has no keys and no places, so
 * that all entries of one container are under one path.
 */

interface RemoteProperty {
  readonly name: string;
  readonly value?: { readonly objectId?: string };
}

/** What is used of Node's inspector. */
interface InspectorSession {
  connect(): void;
  disconnect(): void;
  post<T>(method: string, parameters: object, done: (error: Error | null, result: T) => void): void;
}

/** Hands objects over to the inspector, and back. */
const desk: { object: unknown } = { object: undefined };
Object.defineProperty(globalThis, "heldDesk", { value: desk });

class Inspector {
  readonly #session: InspectorSession;

  constructor(session: InspectorSession) {
    this.#session = session;
  }

  /** An object's private fields that hold objects. */
  privateFields(object: object): readonly (readonly [string, unknown])[] {
    desk.object = object;
    const { result } = this.#call<{ result: { objectId: string } }>(
      "Runtime.evaluate", { expression: "heldDesk.object" });
    const { privateProperties = [] } = this.#call<{ privateProperties?: readonly RemoteProperty[] }>(
      "Runtime.getProperties", { objectId: result.objectId, ownProperties: true });
    return privateProperties.flatMap(({ name, value }) =>
      value?.objectId === undefined ? [] : [[name, this.#fetch(value.objectId)] as const]);
  }

  #fetch(objectId: string): unknown {
    this.#call("Runtime.callFunctionOn", { functionDeclaration: "function () { heldDesk.object = this; }", objectId });
    return desk.object;
  }

  /** Of a session with its own thread; such calls are answered before they return. */
  #call<T>(method: string, parameters: object): T {
    const answers: T[] = [];
    this.#session.post<T>(method, parameters, (error, result) => {
      if (error !== null) throw error;
      answers.push(result);
    });
    const answer = answers[0];
    if (answer === undefined) throw new Error(`the inspector does not answer ${method}`);
    return answer;
  }
}

function fields(object: object, inspector: Inspector): readonly (readonly [string, unknown])[] {
  if (Array.isArray(object) || object instanceof Set) return [...object].map((entry: unknown) => ["", entry]);
  if (object instanceof Map) return [...object].flat().map((entry: unknown) => ["", entry]);
  const open = Object.entries(object);
  return Object.getPrototypeOf(object) === Object.prototype ? open : [...open, ...inspector.privateFields(object)];
}

function size(object: object): number {
  if (Array.isArray(object)) return object.length;
  return object instanceof Map || object instanceof Set ? object.size : 0;
}

/** Entries by path, of everything that is reachable from the root. */
export async function held(root: object): Promise<Readonly<Record<string, number>>> {
  const name: string = "node:inspector";
  const module: { Session: new () => InspectorSession } = await import(/* @vite-ignore */ name);
  const session = new module.Session();
  session.connect();
  const inspector = new Inspector(session);
  const seen = new Set<object>([root]);
  const counts: Record<string, number> = {};
  const queue: (readonly [string, object])[] = [["", root]];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [path, object] = next;
    const entries = size(object);
    if (entries > 0) counts[path] = (counts[path] ?? 0) + entries;
    for (const [name, value] of fields(object, inspector)) {
      if (typeof value !== "object" || value === null || seen.has(value)) continue;
      seen.add(value);
      queue.push([name === "" ? path : `${path}.${name}`, value]);
    }
  }
  session.disconnect();
  return counts;
}

/** All of them. */
export function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, entries) => sum + entries, 0);
}
