/* test_form.c - multipart/form-data: what is read, and all the forms that two readers could read in two ways. */
#include "routing/dialects/form_priv.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (4u << 20)
#define TYPE	    "multipart/form-data; boundary=B-1"
#define PART(name)  "--B-1\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"
#define END	    "--B-1--\r\n"

static struct arena *mem;

static void setup(void)
{
	mem = arena_new(ARENA_BYTES);
}

static void teardown(void)
{
	arena_free(mem);
}

START_TEST(parts_are_slices_of_the_body)
{
	static const char body[] = PART(
		"model") "m\r\n"
			 "--B-1\r\ncontent-disposition:form-data; filename=\"a b;c.mp3\"; "
			 "name=file\r\nContent-Type: audio/mpeg\r\n\r\nx\r\n--B\r\n--B-\r\n\r\n" END;
	struct form *f;
	struct err err = {0};
	const struct form_part *file;

	ck_assert_msg(form_read(STR(TYPE), str_from(body), mem, &f, &err) == RC_OK, "%s",
		      err.message);
	ck_assert_uint_eq(f->count, 2);
	ck_assert(str_is(f->boundary, "B-1"));
	ck_assert(str_is(form_get(f, "model")->value, "m"));
	ck_assert_ptr_null(form_get(f, "model")->filename.ptr);
	file = form_get(f, "file");
	ck_assert(str_is(file->filename, "a b;c.mp3"));
	ck_assert(str_is(file->content_type, "audio/mpeg"));
	ck_assert(str_is(file->value, "x\r\n--B\r\n--B-\r\n"));
	ck_assert(file->value.ptr > body && file->value.ptr < body + sizeof body);
	ck_assert_ptr_null(form_get(f, "other"));
}
END_TEST

START_TEST(what_was_read_is_written_again)
{
	AUTO(buf) struct buf out = BUF_INIT(4096);
	static const char body[] = PART("a") "1\r\n" PART("x[]") "2\r\n" PART("x[]") "3\r\n" END;
	struct form *f;
	struct err err = {0};

	ck_assert_int_eq(form_read(STR(TYPE), str_from(body), mem, &f, &err), RC_OK);
	for (size_t i = 0; i < f->count; i++)
		ck_assert_int_eq(form_put_part(&out, f->boundary, &f->parts[i]), RC_OK);
	ck_assert_int_eq(form_end(&out, f->boundary), RC_OK);
	ck_assert_str_eq(out.ptr, body);
	buf_reset(&out);
	ck_assert_int_eq(form_put_field(&out, f->boundary, "a", STR("1")), RC_OK);
	ck_assert_str_eq(out.ptr, PART("a") "1\r\n");
}
END_TEST

static const struct {
	const char *type, *body;
} bad[] = {
	{"", PART("a") "1\r\n" END},
	{"application/json", PART("a") "1\r\n" END},
	{"multipart/mixed; boundary=B-1", PART("a") "1\r\n" END},
	{"multipart/form-data", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=\"\"", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=B-1; boundary=B-2", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=\"B-1", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=\"B\\-1\"", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=\"B-1 \"", PART("a") "1\r\n" END},
	{"multipart/form-data; boundary=B-1 x", PART("a") "1\r\n" END},
	{TYPE, ""},
	{TYPE, "--B-1"},
	{TYPE, "--B-1\r\n"},
	{TYPE, "--B-2\r\n"},
	{TYPE, "preamble\r\n" PART("a") "1\r\n" END},
	{TYPE, "\r\n" PART("a") "1\r\n" END},
	{TYPE, PART("a") "1\r\n" END "x"},
	{TYPE, PART("a") "1\r\n" END "\r\n"},
	{TYPE, PART("a") "1\r\n"},
	{TYPE, PART("a") "1\r\n--B-1"},
	{TYPE, PART("a") "1\r\n--B-1-"},
	{TYPE, PART("a") "1\r\n--B-1 \r\n" END},
	{TYPE, PART("a") "1\r\n--B-1x\r\n" END},
	{TYPE, PART("a") "1\n--B-1--\r\n"},
	{TYPE, PART("a") "1\r\n" PART("a") "2\r\n" END},
	{TYPE, "--B-1\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Type: a/b\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\\\"b\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a b\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\nb\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\n Content-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: "
	       "form-data; name=\"b\"\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: "
	       "multipart/mixed; boundary=x\r\n\r\n1\r\n" END},
	{TYPE, "--B-1\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: "
	       "base64\r\n\r\n1\r\n" END},
};

START_TEST(a_form_of_two_readings_is_refused)
{
	struct form *f = NULL;
	struct err err = {0};

	ck_assert_int_eq(form_read(str_from(bad[_i].type), str_from(bad[_i].body), mem, &f, &err),
			 RC_INVALID);
	ck_assert_ptr_null(f);
	ck_assert_ptr_nonnull(err.code);
	ck_assert(err.message[0]);
}
END_TEST

START_TEST(bounds_hold)
{
	AUTO(buf) struct buf b = BUF_INIT(1u << 20);
	struct form *f;
	struct err err = {0};

	for (int i = 0; i < FORM_PARTS_MAX + 1; i++)
		ck_assert_int_eq(buf_append(&b, STR(PART("a[]") "1\r\n")), RC_OK);
	ck_assert_int_eq(buf_append(&b, STR(END)), RC_OK);
	ck_assert_int_eq(form_read(STR(TYPE), buf_str(&b), mem, &f, &err), RC_TOO_LARGE);
	buf_reset(&b);
	ck_assert_int_eq(buf_append(&b, STR("--B-1\r\nContent-Disposition: form-data; name=\"a\"; "
					    "filename=\"")),
			 RC_OK);
	for (int i = 0; i < FORM_HEAD_BYTES_MAX; i++)
		ck_assert_int_eq(buf_append_char(&b, 'x'), RC_OK);
	ck_assert_int_eq(buf_append(&b, STR("\"\r\n\r\n1\r\n" END)), RC_OK);
	ck_assert_int_eq(form_read(STR(TYPE), buf_str(&b), mem, &f, &err), RC_INVALID);
}
END_TEST

/* Cut anywhere, it is no form. */
START_TEST(a_cut_form_is_refused)
{
	static const char body[] = PART("a") "1\r\n" PART("b") "2\r\n" END;
	struct form *f;
	struct err err;

	for (size_t n = 0; n < sizeof body - 3; n++)
		ck_assert_int_eq(form_read(STR(TYPE), str_of(body, n), mem, &f, &err), RC_INVALID);
	ck_assert_int_eq(form_read(STR(TYPE), str_of(body, sizeof body - 3), mem, &f, &err), RC_OK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("form");
	TCase *t = tcase_create("form");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, parts_are_slices_of_the_body);
	tcase_add_test(t, what_was_read_is_written_again);
	tcase_add_loop_test(t, a_form_of_two_readings_is_refused, 0, sizeof bad / sizeof *bad);
	tcase_add_test(t, bounds_hold);
	tcase_add_test(t, a_cut_form_is_refused);
	suite_add_tcase(s, t);
	return suite_run(s);
}
