/* An XML-RPC request as a method's name and JSON values. Pure; any thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct xml_request {
    char *method;
    json_t *params; /* an array */
    /* The text was not UTF-8: what is here has U+FFFD where it was not, and is good for telling only. */
    bool damaged;
};

#define XML_REQUEST_ERROR_SIZE 160

/* Reads one <methodCall>. 0: *out is the caller's (xml_request_done). -1: no such document; `error` has a
 * sentence about what is wrong, without any of the text.
 *
 * Untagged values and strings, dates and <double>s that are no finite number become strings; <int>, <i4> and
 * <i8> integers; <nil/> null. A document type is refused, so there are no entities but the five of XML; so
 * are encodings other than UTF-8, US-ASCII and ISO-8859-1, values nested deeper than JSON_MAX_DEPTH, and
 * tags longer than 1,024 bytes. Of a struct's members with the same name the first one counts. */
int xml_request_parse(const char *data, size_t len, struct xml_request *out,
                      char error[static XML_REQUEST_ERROR_SIZE]);
void xml_request_done(struct xml_request *request);
