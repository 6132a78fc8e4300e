// The description of a template's new disks (other_config:disks), read and rewritten as text. The page's
// policy allows no parser of the browser (trusted types), and the form is small:
//   <provision><disk device="0" size="8589934592" sr="" bootable="true" type="system"/></provision>
// What is not of this form is refused, not guessed at.

export interface DescribedDisk {
  device: string;
  size: number;
  bootable: boolean;
}

const TAG = /<(\/?)([A-Za-z][\w-]*)((?:\s+[\w:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>/g;
const ATTRIBUTE = /([\w:-]+)\s*=\s*("[^"<]*"|'[^'<]*')/g;

function checkForm(xml: string): void {
  const rest = xml.replace(/^\s*<\?xml[^?]*\?>/, "").replace(TAG, "");
  if (rest.trim() !== "") {
    throw new Error("The template's description of its disks (other_config:disks) cannot be read.");
  }
}

/** The disks of the description; none when there is no description or it cannot be read. */
export function describedDisks(xml: string | undefined): DescribedDisk[] {
  const disks: DescribedDisk[] = [];
  for (const [, closing, name, attributes] of (xml ?? "").matchAll(TAG)) {
    if (closing === "" && name === "disk") {
      const map = new Map([...(attributes ?? "").matchAll(ATTRIBUTE)].map(([, key, value]) => [key, value?.slice(1, -1)]));
      disks.push({
        device: map.get("device") ?? "", size: Number(map.get("size") ?? NaN), bootable: map.get("bootable") === "true",
      });
    }
  }
  return disks;
}

/** A description of one new disk to start from. */
export function oneDisk(sizeBytes: number): string {
  return `<provision><disk device="0" size="${Math.round(sizeBytes)}" sr="" bootable="true" type="system"/></provision>`;
}

/** The same description with each disk in this SR. */
export function disksIn(xml: string, srUuid: string): string {
  if (!/^[\w-]+$/.test(srUuid)) {
    throw new Error("The storage has no usable UUID.");
  }
  checkForm(xml);
  return xml.replace(TAG, (tag: string, closing: string, name: string, attributes: string, empty: string) => {
    if (closing !== "" || name !== "disk") {
      return tag;
    }
    const others = attributes.replace(ATTRIBUTE, (attribute: string, key: string) => (key === "sr" ? "" : attribute));
    return `<disk${others.replace(/\s+/g, " ").trimEnd()} sr="${srUuid}"${empty === "" ? "" : "/"}>`;
  });
}
