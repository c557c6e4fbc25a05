# Fuzzers: tests/fuzz/NAME.c with what it is about, by clang with libFuzzer. Not part of all:
# tests/t/0350-fuzz.t makes them (make fuzzers), and runs each for a few seconds.
fuzz_names := wire pkt stream nodespec config
fuzzers := $(addprefix $(B)/tests/fuzz/,$(fuzz_names))
FUZZ_FLAGS := -std=gnu11 -g -O1 -Wall -Wextra -Werror -fsanitize=fuzzer,address,undefined \
              -fno-sanitize-recover=undefined
fuzz_of := $(addprefix bus/,err.c mp.c wire.c pkt.c stream.c nodespec.c nearest.c config.c \
           config_tags.c config_finish.c)

$(fuzzers): $(B)/tests/fuzz/%: tests/fuzz/%.c $(fuzz_of) $(wildcard bus/*.h)
	@mkdir -p $(@D)
	clang -I. -D_GNU_SOURCE $(FUZZ_FLAGS) -o $@ $< $(fuzz_of) $(MP_LIBS)
fuzzers: $(fuzzers)
.PHONY: fuzzers
