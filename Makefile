# tollgate - build, run, test. `make help` lists the targets; ops/README.md explains them.
#
#   make run            a private Postgres, a demo org and real calls; ONCE=1 stops after the calls
#   make test           every test there is; SAN=address,undefined or SAN=thread for the sanitizers
#   make V=1 ...        shows the commands
#
# The build is out of tree: build/ for the plain one, build/<sanitizers>/ for the others.

comma := ,
Q       := $(if $(V),,@)
CC      ?= gcc
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
SAN     ?=
BUILD   := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))$(if $(filter clang%,$(notdir $(CC))),/clang)
PYTHON  ?= $(firstword $(wildcard /usr/bin/python3) python3)

# --- what is missing is installed before anything is compiled ------------------------------------
NOBOOT := clean help
ifeq ($(filter $(NOBOOT),$(MAKECMDGOALS)),)
boot_groups := build
boot_groups += $(if $(filter run,$(MAKECMDGOALS)),run)
boot_groups += $(if $(filter test check clients contract integration soak chaos,$(MAKECMDGOALS)),test)
boot_groups += $(if $(filter lint format,$(MAKECMDGOALS)),lint)
boot_groups += $(if $(filter test,$(MAKECMDGOALS)),lint fuzz)
boot_groups += $(if $(filter bench,$(MAKECMDGOALS)),bench)
boot_groups += $(if $(filter fuzz,$(MAKECMDGOALS)),fuzz)
boot := $(shell ops/bootstrap $(boot_groups) >&2 && echo ok)
ifneq ($(lastword $(boot)),ok)
$(error set-up did not finish: see the line of ops/bootstrap above)
endif
endif

PKGS    := libevent_core libevent_openssl libevent_pthreads libcurl libpq openssl yyjson yaml-0.1 libllhttp
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

# --- flags (security.md 6); a flag that this compiler does not know is left out --------------------
try = $(shell $(CC) -Werror $(1) -x c -c /dev/null -o /dev/null 2>/dev/null && echo $(1))
WARN    := -Wall -Wextra -Wformat=2 -Wconversion -Wsign-conversion -Wimplicit-fallthrough -Wshadow \
           -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Werror \
           -Wno-unused-parameter -Wno-error=deprecated-declarations \
           $(call try,-Wtrampolines) $(call try,-Wbidi-chars=any)
HARDEN  := -fstack-clash-protection -fstack-protector-strong $(call try,-fcf-protection=full) \
           -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing \
           $(call try,-ftrivial-auto-var-init=zero) $(call try,-fstrict-flex-arrays=3) \
           $(call try,-fzero-init-padding-bits=all)
ifeq ($(SAN),)
OPT     := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
else
OPT     := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all -U_FORTIFY_SOURCE
LDSAN   := -fsanitize=$(SAN)
endif
VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
CFLAGS  += -std=c11 -D_GNU_SOURCE -I. -I$(BUILD)/gen $(PKG_CFLAGS) $(OPT) $(WARN) $(HARDEN) -fPIE -pthread \
           -ffile-prefix-map=$(CURDIR)=.
LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed -pthread $(LDSAN)
LDLIBS  += $(PKG_LIBS)

# a helper target may build a part of the house: make ROOMS="server/base vault" ...
ROOMS ?= server server/base server/http vault billing routing routing/dialects
SRC  := $(sort $(foreach r,$(ROOMS),$(wildcard $(r)/*.c)))
LIBSRC := $(filter-out server/main.c,$(SRC))
OBJ  := $(LIBSRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/sql.o $(BUILD)/obj/gen/openapi.o
MAIN := $(BUILD)/obj/server/main.o
LIB  := $(BUILD)/libtollgate.a
# loadtest/ shares no code with the service: every .c there is a program of its own, or one of the parts
LOADSRC := $(sort $(wildcard loadtest/*.c))
LOADPART := loadtest/common.c
FAKEPART := $(addprefix loadtest/,ask.c plan.c record.c vendors.c wire.c) $(filter loadtest/speak_%.c,$(LOADSRC))
LOADBIN := $(patsubst loadtest/%.c,$(BUILD)/%,$(filter-out $(LOADPART) $(FAKEPART),$(LOADSRC)))
# one check program per tests/unit/<folder>/test_<file>.c
UNITSRC := $(sort $(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c))
UNITBIN := $(UNITSRC:%.c=$(BUILD)/%)
# measurements inside the process: one program per tests/bench/*.c
BENCHSRC := $(sort $(wildcard tests/bench/*.c))
BENCHBIN := $(BENCHSRC:%.c=$(BUILD)/%)
SQLSRC  := $(sort $(wildcard sql/migrations/*.sql sql/queries/*.sql sql/seed/*))
# what each room says of its endpoints
APISRC  := $(sort $(wildcard $(addsuffix /openapi.json,$(ROOMS))))

MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
.PHONY: all run test check unit integration matrix clients contract bench fuzz lint format install clean help soak chaos
.DELETE_ON_ERROR:
.SECONDARY:
all: $(if $(wildcard server/main.c),$(BUILD)/tollgate) $(LOADBIN)

$(BUILD)/gen/sql.c: sql/embed $(SQLSRC)
	@mkdir -p $(BUILD)/gen/sql
	sql/embed $(BUILD)/gen
$(BUILD)/gen/sql/queries.h: $(BUILD)/gen/sql.c
$(OBJ) $(MAIN): | $(BUILD)/gen/sql/queries.h
$(BUILD)/gen/openapi.c: server/embed $(APISRC)
	@mkdir -p $(@D)
	server/embed $@ $(APISRC)

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/obj/server/main.o: CFLAGS += -DTOLLGATE_VERSION='"$(VERSION)"'
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(LIB): $(OBJ)
	@rm -f $@
	@echo "  AR $@"
	$(Q)$(AR) qcs $@ $^
$(BUILD)/tollgate: $(MAIN) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(MAIN) $(LIB) $(LDLIBS)

$(BUILD)/obj/loadtest/%.o: loadtest/%.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(filter-out -I. -I$(BUILD)/gen,$(CFLAGS)) -MMD -MP -c $< -o $@
$(BUILD)/fake_provider: $(FAKEPART:%.c=$(BUILD)/obj/%.o)
$(LOADBIN): $(BUILD)/%: $(BUILD)/obj/loadtest/%.o $(LOADPART:%.c=$(BUILD)/obj/%.o)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

CHECK_CFLAGS := $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LIBS   := $(shell pkg-config --libs check 2>/dev/null)
$(BUILD)/tests/unit/%: tests/unit/%.c $(LIB) | $(BUILD)/gen/sql/queries.h
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(CFLAGS) $(CHECK_CFLAGS) -Wno-conversion -Wno-sign-conversion -Wno-format-nonliteral \
		-MMD -MP -MF $@.d $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS) $(CHECK_LIBS)

$(BUILD)/tests/bench/%: tests/bench/%.c $(LIB) | $(BUILD)/gen/sql/queries.h
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -MF $@.d $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS)

# --- targets -------------------------------------------------------------------------------------
run: all ## a private Postgres, a demo org, real calls; ONCE=1 stops after them
	@BUILD=$(BUILD) ONCE=$(ONCE) ops/run

test: all unitbin ## every test there is; closes with "N passed, N failed"
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) CC=$(CC) tests/run all
check: all unitbin ## the fast tests: unit tests only
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) tests/run unit
integration: all ## the integration tests: TESTS=name to choose
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) tests/run integration $(TESTS)
matrix: all ## what each of the four dialects gets from each provider, as a table
	@BUILD=$(abspath $(BUILD)) TG_MATRIX=$(abspath $(BUILD))/matrix.txt tests/run integration test_matrix; \
	status=$$?; cat $(BUILD)/matrix.txt; exit $$status
clients: all ## the real client libraries
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) tests/run clients
contract: all ## Schemathesis on the API's description, where it is installed
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) tests/run contract
unitbin: $(UNITBIN)
.PHONY: unitbin
soak chaos: all ## longer runs: the kill loop with many rounds
	@BUILD=$(BUILD) SAN=$(SAN) PYTHON=$(PYTHON) tests/run $@
bench: all $(BENCHBIN) ## added latency and throughput beside a direct call and nginx proxy_pass, in one run
	@BUILD=$(BUILD) PYTHON=$(PYTHON) loadtest/bench
	@BUILD=$(BUILD) PYTHON=$(PYTHON) loadtest/bench_bodies
	@for b in $(BENCHBIN); do $$b || exit 1; done
fuzz: ## each fuzz target for FUZZ_SECONDS (default 20)
	@tests/fuzz/run $(FUZZ_SECONDS)
lint: ## include rules, banned functions, format, static analysis
	@BUILD=$(BUILD) ops/lint
format: ## clang-format over every C file
	@ops/lint reformat
install: all ## under PREFIX
	install -D -m 755 $(BUILD)/tollgate $(DESTDIR)$(PREFIX)/bin/tollgate
clean: ## remove build/
	rm -rf build
help:
	@awk -F':.*## ' '/^[a-z][a-z ]*:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

-include $(OBJ:.o=.d) $(MAIN:.o=.d) $(LOADSRC:%.c=$(BUILD)/obj/%.d) $(UNITBIN:=.d) $(BENCHBIN:=.d)
