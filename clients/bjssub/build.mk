bins += $(BIN)/bjssub
$(BIN)/bjssub: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bjssub: $(call objs,$(addprefix clients/bjssub/,main.c options.c submit.c interactive.c)) \
    $(B)/libclients.a $(LIBCM)
	$(LINK)
