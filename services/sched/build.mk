SCHED := services/sched
sched_core := $(addprefix $(SCHED)/,core.c engine.c wants.c policies.c swf.c replay_run.c policies/help.c)
sched_rest := main methods conf reload guard jobs after turn run runners places nodes \
              submit control list acct db db_list replay

# sched's own copy of simple, to fall back on
$(B)/obj/$(SCHED)/builtin.o: $(SCHED)/policies/simple.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) -DBJS_BUILTIN $(CFLAGS) $(EXTRA_CFLAGS) -c -o $@ $<

helpers += $(LIBEXEC)/sched
$(LIBEXEC)/sched: LIBS = $(ZMQ_LIBS) $(MP_LIBS) $(SQLITE_LIBS) $(JSON_LIBS) -ldl -lm
$(LIBEXEC)/sched: $(call objs,$(sched_core) $(sched_rest:%=$(SCHED)/%.c)) \
    $(B)/obj/$(SCHED)/builtin.o $(B)/libclients.a $(LIBBUS) $(LIBCM)
	$(LINK)

# The starter and the runners, which are forks of it: static, so that a fork is cheap.
helpers += $(LIBEXEC)/bjsrun
$(LIBEXEC)/bjsrun: LIBS = $(MP_LIBS)
$(LIBEXEC)/bjsrun: LDFLAGS += $(if $(SAN),,-static)
$(LIBEXEC)/bjsrun: $(call objs,$(SCHED)/starter.c $(SCHED)/runner.c $(SCHED)/places.c) $(LIBCM)
	$(LINK)

# Policies: NAME.so, nothing of it seen but `policy'
policies := simple shared filler easy
policy_files := $(policies:%=$(LIBEXEC)/policies/%.so)
scripts += $(policy_files)
$(policy_files): $(LIBEXEC)/policies/%.so: $(B)/obj/$(SCHED)/policies/%.o \
    $(B)/obj/$(SCHED)/policies/help.o
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^
$(patsubst %,$(B)/obj/$(SCHED)/policies/%.o,$(policies) help): CFLAGS += -fvisibility=hidden
