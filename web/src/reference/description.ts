// What the reference page reads of an OpenAPI document.
export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  enum?: string[];
  items?: Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
}

interface Parameter { name: string; in: string; required?: boolean; description: string }
interface Content { content?: Record<string, { schema?: Schema }>; description: string }

interface RawOperation {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  parameters?: { $ref: string }[];
  requestBody?: { content: Record<string, { schema?: Schema }> };
  responses: Record<string, Content & { $ref?: string }>;
  "x-errors"?: string[];
}

export interface Description {
  openapi: string;
  info: { title: string; version: string };
  tags: { name: string; description: string }[];
  paths: Record<string, Partial<Record<Method, RawOperation>>>;
  components: {
    schemas: Record<string, Schema>;
    parameters: Record<string, Parameter>;
    "x-errors": Record<string, { status: number; params: string[]; description: string }>;
  };
}

export const METHODS = ["get", "post", "patch", "delete"] as const;
export type Method = (typeof METHODS)[number];

export interface Operation extends Omit<RawOperation, "parameters" | "responses"> {
  method: Method;
  path: string;
  parameters?: Parameter[];
  answers: { status: string; description: string; schema?: Schema }[];
}

/** What a reference names, or the thing itself. */
export function resolve<T>(of: Description, x: { $ref?: string }): T {
  if (!x.$ref) {
    return x as T;
  }
  let at: unknown = of;
  for (const part of x.$ref.split("/").slice(1)) {
    at = (at as Record<string, unknown>)[part];
  }
  return at as T;
}

/** A type in a few words: VM[], string or null, {string: boolean}. */
export function typeName(schema: Schema): string {
  if (schema.$ref) return schema.$ref.split("/").pop()!;
  if (schema.allOf) return typeName(schema.allOf[0]!);
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type ?? "any";
  if (type === "array" && schema.items) return `${typeName(schema.items)}[]`;
  if (type === "object" && typeof schema.additionalProperties === "object") return `{string: ${typeName(schema.additionalProperties)}}`;
  return type;
}

/** All operations, by list, in the order of the document. */
export function operationsOf(of: Description): { name: string; description: string; operations: Operation[] }[] {
  const lists = of.tags.map((tag) => ({ ...tag, operations: [] as Operation[] }));
  for (const [path, methods] of Object.entries(of.paths)) {
    for (const method of METHODS) {
      const raw = methods[method];
      if (!raw) continue;
      const answers = Object.entries(raw.responses).map(([status, response]) => {
        const { description, content } = resolve<Content>(of, response);
        const schema = Object.values(content ?? {})[0]?.schema;
        return schema ? { status, description, schema } : { status, description };
      });
      const parameters = (raw.parameters ?? []).map((p) => resolve<Parameter>(of, p));
      lists.find((list) => list.name === raw.tags[0])?.operations.push({ ...raw, method, path, parameters, answers });
    }
  }
  return lists;
}
