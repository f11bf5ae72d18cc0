/* server/config.c - the settings: merged tables, environment over file over default.
 *
 * Everything wrong ends in one sentence that names the setting and where it came from. Must never put
 * the value of a secret into that sentence, into a log or into the printed configuration.
 *
 * An empty variable or an empty value in the file counts as not set. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "server/base/json.h"
#include "server/config.h"

#define CONFIG_PREFIX		"TOLLGATE_"
#define CONFIG_NAME_BYTES_MAX	64
#define CONFIG_FILE_BYTES_MAX	(1024 * 1024) /* a hand-written file is a thousandth of it */
#define CONFIG_SECRET_BYTES_MAX (64 * 1024)   /* a list of old keys, a PEM chain */
#define CONFIG_WIPED_MAX	16	      /* settings that may be wiped: a handful of secrets */
#define CONFIG_WHERE_BYTES_MAX	256

struct value {
	char *text; /* NULL: unset, or wiped */
	int64_t number;
	bool set; /* by file or environment */
	char *origin;
	char *path; /* of the file that a secret came from */
};

struct config {
	const struct setting **rows;
	struct value *values;
	size_t count;
};

/* Names whose secret was taken over and wiped from the environment. A reload cannot see them again
 * and must not call them missing. Written before the threads start, read by the control thread. */
static const char *wiped[CONFIG_WIPED_MAX];

/* One thing to assign: which setting, from what, and how to call that in an error. */
struct source {
	const struct setting *row;
	bool is_file; /* the value is the path of a file that holds the secret */
	const char *where;
	const char *origin;
};

static void *must(void *ptr)
{
	if (!ptr)
		abort();
	return ptr;
}

__attribute__((format(printf, 3, 4))) static enum rc bad(struct err *err, const struct setting *row,
							 const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;
	enum rc rc;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	rc = err_set(err, RC_INVALID, "bad_config", "%s", text);
	if (row)
		err_field(err, "%s", row->name);
	return rc;
}

static void env_name(const char *name, bool is_file, char out[CONFIG_NAME_BYTES_MAX])
{
	size_t at = sizeof CONFIG_PREFIX - 1;

	assert(strlen(name) + sizeof CONFIG_PREFIX + sizeof "_FILE" < CONFIG_NAME_BYTES_MAX);
	memcpy(out, CONFIG_PREFIX, at);
	for (; *name; name++)
		out[at++] = (char)(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
	memcpy(out + at, is_file ? "_FILE" : "", is_file ? 6 : 1);
}

static const char *env_value(const char *name, bool is_file)
{
	char env[CONFIG_NAME_BYTES_MAX];
	const char *v;

	env_name(name, is_file, env);
	v = getenv(env);
	return v && *v ? v : NULL;
}

/* --- the tables ---------------------------------------------------------------------------------- */

static struct config *config_new(const struct setting *const *tables)
{
	struct config *c = must(calloc(1, sizeof *c));
	size_t count = 0;

	for (const struct setting *const *t = tables; *t; t++)
		for (const struct setting *s = *t; s->name; s++)
			count++;
	c->rows = must(calloc(count + 1, sizeof *c->rows));
	c->values = must(calloc(count + 1, sizeof *c->values));
	for (; *tables; tables++) {
		for (const struct setting *s = *tables; s->name; s++) {
			for (size_t i = 0; i < c->count; i++)
				assert(strcmp(c->rows[i]->name, s->name) != 0);
			c->rows[c->count++] = s;
		}
	}
	return c;
}

static void value_clear(const struct setting *row, struct value *v)
{
	if (v->text && row->secret)
		explicit_bzero(v->text, strlen(v->text));
	free(v->text);
	free(v->origin);
	free(v->path);
	*v = (struct value){.text = NULL};
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		value_clear(c->rows[i], &c->values[i]);
	free(c->rows);
	free(c->values);
	free(c);
}

static struct value *find(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->count; i++)
		if (strcmp(c->rows[i]->name, name) == 0)
			return &c->values[i];
	return NULL;
}

/* `name` as a setting, or as a secret setting with "_file" behind it. */
static bool lookup(const struct config *c, struct str name, struct source *ret)
{
	static const struct str suffix = {"_file", 5};

	for (size_t i = 0; i < c->count; i++) {
		if (str_is(name, c->rows[i]->name)) {
			ret->row = c->rows[i];
			ret->is_file = false;
			return true;
		}
	}
	if (!str_ends(name, suffix))
		return false;
	name.len -= suffix.len;
	for (size_t i = 0; i < c->count; i++) {
		if (c->rows[i]->secret && str_is(name, c->rows[i]->name)) {
			ret->row = c->rows[i];
			ret->is_file = true;
			return true;
		}
	}
	return false;
}

/* --- one value ----------------------------------------------------------------------------------- */

static bool parse_bytes(struct str s, int64_t *ret)
{
	static const struct {
		const char *name;
		int64_t bytes;
	} units[] = {{"KiB", 1ll << 10}, {"MiB", 1ll << 20}, {"GiB", 1ll << 30}, {"B", 1}};
	int64_t unit = 1;

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (str_ends(s, str_from(units[i].name))) {
			s = str_trim(str_slice(s, 0, s.len - strlen(units[i].name)));
			unit = units[i].bytes;
			break;
		}
	}
	return str_to_i64(s, ret) == RC_OK && !__builtin_mul_overflow(*ret, unit, ret);
}

static bool parse_bool(struct str s, int64_t *ret)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_is(s, words[i])) {
			*ret = i & 1;
			return true;
		}
	}
	return false;
}

static bool parse_enum(const char *values, struct str s, int64_t *ret)
{
	struct str rest = str_from(values);

	for (int64_t i = 0; rest.ptr; i++) {
		if (str_eq(str_cut(&rest, '|'), s)) {
			*ret = i;
			return true;
		}
	}
	return false;
}

/* What would have been right, for the error. */
static void describe(const struct setting *row, char out[CONFIG_WHERE_BYTES_MAX])
{
	switch (row->type) {
	case SETTING_INT:
		(void)snprintf(out, CONFIG_WHERE_BYTES_MAX, "a whole number from %lld to %lld",
			       (long long)row->min, (long long)row->max);
		break;
	case SETTING_BYTES:
		(void)snprintf(out, CONFIG_WHERE_BYTES_MAX,
			       "a size from %lld to %lld bytes, like 32MiB", (long long)row->min,
			       (long long)row->max);
		break;
	case SETTING_BOOL:
		(void)snprintf(out, CONFIG_WHERE_BYTES_MAX, "true or false");
		break;
	case SETTING_ENUM:
		(void)snprintf(out, CONFIG_WHERE_BYTES_MAX, "one of %s", row->values);
		break;
	case SETTING_STRING:
		(void)snprintf(out, CONFIG_WHERE_BYTES_MAX, "text without control characters");
		break;
	}
}

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return true;
	return false;
}

static bool in_range(const struct setting *row, int64_t n)
{
	return n >= row->min && n <= row->max;
}

static bool parse(const struct setting *row, struct str s, int64_t *ret)
{
	*ret = 0;
	switch (row->type) {
	case SETTING_INT:
		return str_to_i64(s, ret) == RC_OK && in_range(row, *ret);
	case SETTING_BYTES:
		return parse_bytes(s, ret) && in_range(row, *ret);
	case SETTING_BOOL:
		return parse_bool(s, ret);
	case SETTING_ENUM:
		return parse_enum(row->values, s, ret);
	case SETTING_STRING:
		return row->secret || !has_control(s); /* a secret may be a PEM */
	}
	return false;
}

/* The contents of a secret's file, without its last newline; the caller wipes and frees. */
static enum rc read_secret(const struct source *src, const char *path, char **ret, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	char *text;
	size_t len = 0;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st) != 0) {
		n = errno;
		if (fd >= 0)
			close(fd);
		return bad(err, src->row, "%s: cannot read %s: %s", src->where, path,
			   strerror((int)n));
	}
	if (S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO))) {
		close(fd);
		return bad(err, src->row,
			   "%s: %s holds a secret and is open to other users: chmod 600 it",
			   src->where, path);
	}
	text = must(calloc(1, CONFIG_SECRET_BYTES_MAX + 1));
	while (len < CONFIG_SECRET_BYTES_MAX &&
	       (n = read(fd, text + len, CONFIG_SECRET_BYTES_MAX - len)) > 0)
		len += (size_t)n;
	close(fd);
	if (len && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len && text[len - 1] == '\r')
		text[--len] = '\0';
	if (n != 0 || len == 0 || strlen(text) != len) {
		explicit_bzero(text, CONFIG_SECRET_BYTES_MAX);
		free(text);
		return bad(err, src->row, "%s: %s is %s", src->where, path,
			   n < 0      ? "not readable"
			   : len == 0 ? "empty"
			   : n > 0    ? "too large for a secret"
				      : "not text");
	}
	*ret = text;
	return RC_OK;
}

static enum rc take(struct config *c, const struct source *src, const char *text, struct err *err)
{
	struct value *v = find(c, src->row->name);
	char right[CONFIG_WHERE_BYTES_MAX];
	int64_t number;

	assert(text);
	if (!parse(src->row, str_from(text), &number)) {
		describe(src->row, right);
		if (src->row->secret)
			return bad(err, src->row, "%s must be %s", src->where, right);
		return bad(err, src->row, "%s must be %s, not \"%.80s\"", src->where, right, text);
	}
	value_clear(src->row, v);
	v->text = must(strdup(text));
	v->number = number;
	v->origin = must(strdup(src->origin));
	return RC_OK;
}

static enum rc assign(struct config *c, const struct source *src, const char *text, struct err *err)
{
	char *secret = NULL;
	enum rc rc;

	if (!src->is_file) {
		rc = take(c, src, text, err);
	} else {
		TRY(read_secret(src, text, &secret, err));
		rc = take(c, src, secret, err);
		explicit_bzero(secret, CONFIG_SECRET_BYTES_MAX);
		free(secret);
	}
	if (rc == RC_OK) {
		find(c, src->row->name)->set = true;
		find(c, src->row->name)->path = src->is_file ? must(strdup(text)) : NULL;
	}
	return rc;
}

static void take_defaults(struct config *c)
{
	for (size_t i = 0; i < c->count; i++) {
		struct source src = {.row = c->rows[i], .where = "default", .origin = "default"};
		enum rc rc = RC_OK;

		if (src.row->def && *src.row->def)
			rc = take(c, &src, src.row->def, NULL);
		assert(rc == RC_OK); /* a default that its own row refuses */
	}
}

/* --- the file: one flat mapping of plain values -------------------------------------------------- */

struct yaml {
	const char *path;
	yaml_parser_t parser;
	yaml_event_t event;
	struct config *config;
	struct err *err;
};

static enum rc yaml_bad(struct yaml *y, size_t line, const struct setting *row, const char *what)
{
	return bad(y->err, row, "%s:%zu: %s%s%s", y->path, line + 1, row ? row->name : "",
		   row ? " " : "", what);
}

static enum rc yaml_next(struct yaml *y)
{
	yaml_event_delete(&y->event);
	if (yaml_parser_parse(&y->parser, &y->event))
		return RC_OK;
	return yaml_bad(y, y->parser.problem_mark.line, NULL,
			y->parser.problem ? y->parser.problem : "this is not YAML");
}

static bool yaml_plain(const yaml_event_t *e)
{
	return e->type == YAML_SCALAR_EVENT && !e->data.scalar.anchor && !e->data.scalar.tag &&
	       strlen((const char *)e->data.scalar.value) == e->data.scalar.length;
}

static const char *yaml_text(const yaml_event_t *e)
{
	return (const char *)e->data.scalar.value;
}

static enum rc yaml_member(struct yaml *y, bool *seen)
{
	size_t line = y->event.start_mark.line;
	char where[CONFIG_WHERE_BYTES_MAX], origin[CONFIG_WHERE_BYTES_MAX];
	struct source src = {.where = where, .origin = origin};
	size_t at;

	if (!yaml_plain(&y->event))
		return yaml_bad(y, line, NULL, "a setting's name was expected here");
	if (!lookup(y->config, str_from(yaml_text(&y->event)), &src))
		return bad(y->err, NULL, "%s:%zu: there is no setting \"%.64s\"", y->path, line + 1,
			   yaml_text(&y->event));
	(void)snprintf(where, sizeof where, "%s:%zu: %s%s", y->path, line + 1, src.row->name,
		       src.is_file ? "_file" : "");
	(void)snprintf(origin, sizeof origin, "%s:%zu", y->path, line + 1);
	at = (size_t)(find(y->config, src.row->name) - y->config->values);
	if (seen[at])
		return yaml_bad(y, line, src.row, "is set twice");
	seen[at] = true;
	TRY(yaml_next(y));
	if (!yaml_plain(&y->event))
		return yaml_bad(y, line, src.row, "must be one plain value");
	if (!*yaml_text(&y->event))
		return RC_OK;
	return assign(y->config, &src, yaml_text(&y->event), y->err);
}

static enum rc yaml_mapping(struct yaml *y)
{
	bool *seen = must(calloc(y->config->count + 1, sizeof *seen));
	enum rc rc = yaml_next(y);

	while (rc == RC_OK && y->event.type != YAML_MAPPING_END_EVENT) {
		rc = yaml_member(y, seen);
		if (rc == RC_OK)
			rc = yaml_next(y);
	}
	free(seen);
	return rc;
}

static enum rc yaml_document(struct yaml *y)
{
	TRY(yaml_next(y)); /* stream start */
	TRY(yaml_next(y));
	if (y->event.type == YAML_STREAM_END_EVENT)
		return RC_OK;
	TRY(yaml_next(y)); /* behind the document's start */
	if (yaml_plain(&y->event) && !*yaml_text(&y->event))
		TRY(RC_OK); /* "---" and nothing else */
	else if (y->event.type != YAML_MAPPING_START_EVENT || y->event.data.mapping_start.anchor)
		return yaml_bad(y, y->event.start_mark.line, NULL,
				"the file must be one mapping of settings");
	else
		TRY(yaml_mapping(y));
	TRY(yaml_next(y)); /* document end */
	TRY(yaml_next(y));
	if (y->event.type != YAML_STREAM_END_EVENT)
		return yaml_bad(y, y->event.start_mark.line, NULL,
				"the file must hold one document only");
	return RC_OK;
}

static enum rc read_file(const char *path, struct buf *out, struct err *err)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return bad(err, NULL, "cannot read the configuration file %s: %s", path,
			   strerror(errno));
	if (buf_reserve(out, CONFIG_FILE_BYTES_MAX) != RC_OK)
		abort();
	n = fread(out->ptr, 1, CONFIG_FILE_BYTES_MAX, f);
	out->len = n;
	out->ptr[n] = '\0';
	if (ferror(f) || (n == CONFIG_FILE_BYTES_MAX && fgetc(f) != EOF)) {
		fclose(f);
		return bad(err, NULL,
			   "the configuration file %s is not readable or larger than 1 MiB", path);
	}
	fclose(f);
	return RC_OK;
}

static enum rc take_file(struct config *c, const char *path, struct err *err)
{
	struct buf text = BUF_INIT(CONFIG_FILE_BYTES_MAX);
	struct yaml y = {.path = path, .config = c, .err = err};
	enum rc rc = read_file(path, &text, err);

	if (rc == RC_OK) {
		if (!yaml_parser_initialize(&y.parser))
			abort();
		yaml_parser_set_input_string(&y.parser, (const unsigned char *)text.ptr, text.len);
		rc = yaml_document(&y);
		yaml_event_delete(&y.event);
		yaml_parser_delete(&y.parser);
	}
	if (text.ptr)
		explicit_bzero(text.ptr, text.cap); /* secrets may stand in it */
	buf_clear(&text);
	return rc;
}

/* --- the environment ----------------------------------------------------------------------------- */

/* Only upper case names a variable of ours: anything else must not be found. */
static char setting_char(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c >= 'a' && c <= 'z' ? '?' : c;
}

static enum rc check_environment(const struct config *c, struct err *err)
{
	for (char **e = environ; e && *e; e++) {
		struct str rest = str_from(*e);
		struct str name = str_cut(&rest, '=');
		char lower[CONFIG_NAME_BYTES_MAX] = "";
		struct source src;

		if (!str_starts(name, STR(CONFIG_PREFIX)))
			continue;
		name = str_slice(name, sizeof CONFIG_PREFIX - 1, name.len);
		for (size_t i = 0; i < name.len && i < sizeof lower - 1; i++)
			lower[i] = setting_char(name.ptr[i]);
		if (name.len >= sizeof lower || !lookup(c, str_from(lower), &src))
			return bad(err, NULL, "there is no setting " CONFIG_PREFIX "%.*s",
				   STR_FMT(str_slice(name, 0, 64)));
	}
	return RC_OK;
}

static enum rc take_environment(struct config *c, struct err *err)
{
	TRY(check_environment(c, err));
	for (size_t i = 0; i < c->count; i++) {
		char env[CONFIG_NAME_BYTES_MAX];
		struct source src = {.row = c->rows[i], .where = env, .origin = env};
		const char *text = env_value(src.row->name, false);
		const char *path = src.row->secret ? env_value(src.row->name, true) : NULL;

		env_name(src.row->name, false, env);
		if (text && path)
			return bad(err, src.row, "%s and %s_FILE are both set: keep one", env, env);
		if (path)
			env_name(src.row->name, true, env);
		src.is_file = path != NULL;
		if (text || path)
			TRY(assign(c, &src, path ? path : text, err));
	}
	return RC_OK;
}

static bool was_wiped(const char *name)
{
	for (size_t i = 0; i < CONFIG_WIPED_MAX && wiped[i]; i++)
		if (strcmp(wiped[i], name) == 0)
			return true;
	return false;
}

static enum rc check_required(struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct setting *row = c->rows[i];
		struct value *v = &c->values[i];
		char env[CONFIG_NAME_BYTES_MAX];

		if (!v->set && was_wiped(row->name)) {
			v->set = true;
			v->origin = must(strdup("environment at start"));
		}
		if (!row->required || v->text || v->set)
			continue;
		env_name(row->name, false, env);
		(void)bad(err, row, "%s is required%s%s", env, row->help ? ": " : "",
			  row->help ? row->help : "");
		err_hint(err, "Set %s%s in the environment, or %s in the configuration file.", env,
			 row->secret ? " or its _FILE form" : "", row->name);
		return RC_INVALID;
	}
	return RC_OK;
}

enum rc config_load(const struct setting *const *tables, const char *file, struct config **ret,
		    struct err *err)
{
	struct config *c = config_new(tables);
	enum rc rc = RC_OK;

	take_defaults(c);
	if (file)
		rc = take_file(c, file, err);
	if (rc == RC_OK)
		rc = take_environment(c, err);
	if (rc == RC_OK)
		rc = check_required(c, err);
	if (rc != RC_OK) {
		config_free(c);
		return rc;
	}
	*ret = c;
	return RC_OK;
}

/* --- questions ----------------------------------------------------------------------------------- */

static const struct value *known(const struct config *c, const char *name)
{
	const struct value *v = find(c, name);

	assert(v);
	return v;
}

const char *config_str(const struct config *c, const char *name)
{
	return known(c, name)->text;
}

int64_t config_int(const struct config *c, const char *name)
{
	return known(c, name)->number;
}

bool config_bool(const struct config *c, const char *name)
{
	return known(c, name)->number != 0;
}

bool config_is_set(const struct config *c, const char *name)
{
	return known(c, name)->set;
}

const char *config_secret_path(const struct config *c, const char *name)
{
	return known(c, name)->path;
}

static void wiped_add(const char *name)
{
	size_t i = 0;

	if (was_wiped(name))
		return;
	while (i < CONFIG_WIPED_MAX && wiped[i])
		i++;
	assert(i < CONFIG_WIPED_MAX);
	wiped[i] = must(strdup(name)); /* for the life of the process */
}

void config_wipe(struct config *c, const char *name)
{
	struct value *v = find(c, name);
	char env[CONFIG_NAME_BYTES_MAX];
	char *original;

	assert(v);
	if (v->text) {
		explicit_bzero(v->text, strlen(v->text));
		free(v->text);
		v->text = NULL;
	}
	env_name(name, false, env);
	original = getenv(env);
	if (original) {
		if (*original)
			wiped_add(name);
		explicit_bzero(original, strlen(original));
		unsetenv(env);
	}
}

static const char *shown(const struct setting *row, const struct value *v)
{
	if (row->secret)
		return v->text || v->set ? "[set]" : NULL;
	return v->text;
}

static enum rc print_json(const struct config *c, struct buf *out)
{
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	for (size_t i = 0; i < c->count; i++) {
		const struct setting *row = c->rows[i];
		const struct value *v = &c->values[i];

		json_obj(&o, row->name);
		if (v->text && (row->type == SETTING_INT || row->type == SETTING_BYTES))
			json_put_int(&o, "value", v->number);
		else if (v->text && row->type == SETTING_BOOL)
			json_put_bool(&o, "value", v->number != 0);
		else
			json_put_z(&o, "value", shown(row, v));
		json_put_z(&o, "origin", v->origin ? v->origin : "unset");
		json_obj_end(&o);
	}
	json_obj_end(&o);
	return json_out_end(&o);
}

enum rc config_print(const struct config *c, bool json, struct buf *out)
{
	if (json)
		return print_json(c, out);
	for (size_t i = 0; i < c->count; i++) {
		const struct value *v = &c->values[i];
		const char *text = shown(c->rows[i], v);

		TRY(buf_printf(out, "%s: %s   # %s\n", c->rows[i]->name, text ? text : "",
			       v->origin ? v->origin : "unset"));
	}
	return RC_OK;
}
