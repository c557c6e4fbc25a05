bins += $(BIN)/bjsstat
$(BIN)/bjsstat: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bjsstat: $(call objs,$(addprefix clients/bjsstat/,main.c table.c detail.c)) \
    $(B)/libclients.a $(LIBCM)
	$(LINK)
