bins += $(BIN)/bpmove
$(BIN)/bpmove: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bpmove: $(call objs,$(addprefix clients/bpmove/,main.c one.c drain.c)) \
    $(B)/libclients.a $(LIBCM)
	$(LINK)
