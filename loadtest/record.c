/* loadtest/record.c - the requests the fake provider got, so that a test sees what was sent upstream.
 *
 * In memory only, and bounded. A key is shown whole by record_last() alone, which tests of keys need. */
#include <string.h>
#include <strings.h>
#include "fake.h"
#include "record.h"

#define KEPT_MAX	256
#define KEPT_BYTES_MAX	(64 * 1024 * 1024)
#define KEY_BYTES_SHOWN 8 /* as in the log */

static struct kept {
	struct text head, body;
} kept[KEPT_MAX];
static size_t kept_first, kept_count, kept_bytes;
static struct kept last;

static void kept_drop(void)
{
	struct kept *oldest = &kept[kept_first];

	kept_bytes -= oldest->head.len + oldest->body.len;
	text_clear(&oldest->head);
	text_clear(&oldest->body);
	kept_first = (kept_first + 1) % KEPT_MAX;
	kept_count--;
}

void record_keep(struct span head, struct span body, bool is_last)
{
	struct kept *k;

	while (kept_count == KEPT_MAX ||
	       (kept_count > 0 && kept_bytes + head.len + body.len > KEPT_BYTES_MAX))
		kept_drop();
	k = &kept[(kept_first + kept_count++) % KEPT_MAX];
	text_add(&k->head, head.at, head.len);
	text_add(&k->body, body.at, body.len);
	kept_bytes += head.len + body.len;
	if (!is_last)
		return;
	last.head.len = last.body.len = 0;
	text_add(&last.head, head.at, head.len);
	text_add(&last.body, body.at, body.len);
}

/* Whether JSON can say it as it is. */
static bool is_utf8(struct span s)
{
	size_t i = 0;

	while (i < s.len) {
		unsigned char c = (unsigned char)s.at[i];
		size_t more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;

		if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || s.len - i <= more)
			return false;
		for (size_t n = 1; n <= more; n++)
			if (((unsigned char)s.at[i + n] & 0xc0) != 0x80)
				return false;
		i += more + 1;
	}
	return true;
}

static void body_add(struct text *t, struct span body)
{
	if (is_utf8(body)) {
		text_z(t, ",\"body\":");
		text_json(t, body.at, body.len);
	} else {
		text_z(t, ",\"body_base64\":\"");
		base64_add(t, body.at, body.len);
		text_z(t, "\"");
	}
}

void record_last(struct text *t)
{
	if (last.head.len == 0) {
		text_z(t, "{}\n");
		return;
	}
	text_z(t, "{\"head\":");
	text_json(t, last.head.at, last.head.len);
	if (last.body.at == NULL)
		text_z(&last.body, "");
	body_add(t, (struct span){last.body.at, last.body.len});
	text_z(t, "}\n");
}

static void key_add(struct text *t, struct span value)
{
	size_t n = value.len > KEY_BYTES_SHOWN ? KEY_BYTES_SHOWN : value.len;
	struct text masked = {0};

	text_z(&masked, "***");
	text_add(&masked, value.at + value.len - n, n);
	text_json(t, masked.at, masked.len);
	text_clear(&masked);
}

/* One header line; names in small letters. */
static void header_add(struct text *t, struct span line, bool first)
{
	static const char *const keys[] = {"authorization", "x-api-key", "x-goog-api-key",
					   "xi-api-key", "api-key"};
	const char *colon = memchr(line.at, ':', line.len);
	size_t n = colon != NULL ? (size_t)(colon - line.at) : line.len;
	struct span value = {line.at + n, line.len - n};
	bool is_key = false;
	char name[128];

	span_copy((struct span){line.at, n}, name, sizeof(name));
	for (char *p = name; *p != 0; p++)
		*p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
	while (value.len > 0 && (*value.at == ':' || *value.at == ' ')) {
		value.at++;
		value.len--;
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		is_key = is_key || strcmp(name, keys[i]) == 0;
	text_z(t, first ? "" : ",");
	text_json(t, name, strlen(name));
	text_z(t, ":");
	if (is_key)
		key_add(t, value);
	else
		text_json(t, value.at, value.len);
}

static void headers_add(struct text *t, struct span fields)
{
	bool first = true;

	text_z(t, ",\"headers\":{");
	while (fields.len > 0) {
		const char *nl = memchr(fields.at, '\n', fields.len);
		size_t n = nl != NULL ? (size_t)(nl - fields.at) : fields.len;
		struct span line = {fields.at, n > 0 && fields.at[n - 1] == '\r' ? n - 1 : n};

		if (line.len > 0) {
			header_add(t, line, first);
			first = false;
		}
		n += nl != NULL;
		fields.at += n;
		fields.len -= n;
	}
	text_z(t, "}");
}

/* ?alt=sse&key=... without the key. */
static void query_add(struct text *t, struct span query)
{
	struct text shown = {0};

	text_z(&shown, "");
	while (query.len > 0) {
		const char *end = memchr(query.at, '&', query.len);
		size_t n = end != NULL ? (size_t)(end - query.at) : query.len;

		if (shown.len > 0)
			text_z(&shown, "&");
		if (n >= 4 && memcmp(query.at, "key=", 4) == 0)
			text_z(&shown, "key=***");
		else
			text_add(&shown, query.at, n);
		n += end != NULL;
		query.at += n;
		query.len -= n;
	}
	text_z(t, ",\"query\":");
	text_json(t, shown.at, shown.len);
	text_clear(&shown);
}

static void kept_add(struct text *t, struct kept *k)
{
	struct http_head head;
	struct span path;
	const char *query;

	if (k->body.at == NULL)
		text_z(&k->body, "");
	if (http_head_parse((struct span){k->head.at, k->head.len}, &head) <= 0)
		return;
	path = head.start[1];
	query = memchr(path.at, '?', path.len);
	text_z(t, "{\"method\":");
	text_json(t, head.start[0].at, head.start[0].len);
	text_z(t, ",\"path\":");
	text_json(t, path.at, query != NULL ? (size_t)(query - path.at) : path.len);
	query_add(t, query != NULL
			     ? (struct span){query + 1, path.len - (size_t)(query + 1 - path.at)}
			     : (struct span){"", 0});
	headers_add(t, head.fields);
	body_add(t, (struct span){k->body.at, k->body.len});
	text_f(t, ",\"body_bytes\":%zu}", k->body.len);
}

void record_all(struct text *t)
{
	text_z(t, "[");
	for (size_t i = 0; i < kept_count; i++) {
		text_z(t, i > 0 ? ",\n" : "");
		kept_add(t, &kept[(kept_first + i) % KEPT_MAX]);
	}
	text_z(t, "]\n");
}

void record_clear(void)
{
	while (kept_count > 0)
		kept_drop();
	text_clear(&last.head);
	text_clear(&last.body);
}
